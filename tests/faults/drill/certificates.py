"""Breakages of certificates."""

from datetime import timedelta
from pathlib import Path

from tests.faults.drill.breakage import Breakage
from tests.faults.drill.site import Site
from tests.support.given import Json
from tests.support.tls import Authority

RENEWED = timedelta(days=365)


def _directory(site: Site) -> Path:
    directory = site.stint.directory / "certificates"
    directory.mkdir(exist_ok=True)
    return directory


def _start_with_one_that_ends(site: Site) -> None:
    file = Authority(_directory(site), valid=timedelta(days=5)).file
    site.restart("relay", DATABASE_URL=f"{site.stint.database_url}&sslrootcert={file}")


def _renew(site: Site, _: Json) -> None:
    Authority(_directory(site), valid=RENEWED)  # in the same file
    site.restart("relay")


BREAKAGES = [
    Breakage(
        "a certificate ends soon",
        "A certificate ends soon: the authority of Postgres at",
        "A certificate ends soon",
        "renew it, at the server, or in the file, and then restart Stint",
        _start_with_one_that_ends,
        _renew,
        tidy=lambda site: site.restart("relay", DATABASE_URL=site.stint.database_url),
    ),
]
