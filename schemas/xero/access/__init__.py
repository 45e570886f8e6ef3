"""Whether Xero still gives Stint access to the connected organisation: finding out, pausing, telling, and going on."""
