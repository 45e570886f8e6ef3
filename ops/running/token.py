"""`./stint token`: a token from the `./stint up` that runs, which has the signing key at hand. Without one, or if this shell
has a setting of tokens of its own, the key is decrypted here, which takes several times as long."""

import argparse
import os

from ops.errors import CommandError
from ops.running.asking import TOKEN, ask
from ops.state import State

# what a token depends on beside the database
OF_TOKENS = ("SECRET_KEY", "AUTH_ISSUER", "AUTH_CLIENT_IDS", "INTERNAL_CLIENT_IDS", "IDENTITY")


def run(args: argparse.Namespace) -> int:
    """Prints only a token, for `--role`, `--email` and `--customer`."""
    state = State(args.state)
    if state.own_run() is not None and not any(name in os.environ for name in OF_TOKENS):
        try:
            answer = ask(state.directory, TOKEN, role=args.role, email=args.email, customer=args.customer)
        except (OSError, ValueError):  # it is of another version, or stops, or its database does not answer
            answer = {}
        if "error" in answer:
            raise CommandError(answer["error"])
        if "token" in answer:
            print(answer["token"])
            return 0
    os.environ.update(state.environment())
    from ops.users import run_token

    return run_token(args)
