-- A mapping remembers its organisation in Xero: bills wait while another one is connected.

-- Null: written while no organisation was connected, or before this migration. It is of the organisation that is connected now, or
-- next; connecting another one writes it down (schemas/xero/connection.py).
ALTER TABLE customers ADD COLUMN xero_tenant_id text;   -- of xero_project_id
ALTER TABLE pillars ADD COLUMN xero_tenant_id text;     -- of xero_task_id
ALTER TABLE xero_entries ADD COLUMN create_refused boolean NOT NULL DEFAULT false;   -- Xero refused the last create, of `content`
