"""`./stint doctor`: what is wrong with the installation, why that matters, and what to do about it."""

import argparse
import asyncio

from rich.console import Console

from ops.state import State
from ops.status import collect
from schemas.diagnosis.findings import diagnose
from schemas.settings import settings


def run(args: argparse.Namespace) -> int:
    """Prints what is wrong. Returns 0 when nothing is, else 1."""
    state = State(args.state)
    findings = diagnose(asyncio.run(collect(settings(), api_url=state.api_url(), run=state.own_run())))
    if args.json:
        Console().print_json(data=[finding.__dict__ for finding in findings])
    else:
        for finding in findings:
            print(f"{finding.what}\n  why: {finding.why}\n  do:  {finding.do}\n")
        print(f"Problems found: {len(findings)}." if findings else "Nothing is wrong.")
    return 1 if findings else 0
