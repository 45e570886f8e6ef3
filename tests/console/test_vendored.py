"""The files of other projects are unchanged, and all files of the console are small enough for the first page."""

import hashlib
import tomllib

from api.console.static import FOLDER, TYPES, files

LIMIT_BYTES = 60_000  # over the wire, of the first page
OWN = {"console.css", "console.js", "icon.svg"}


def test_each_file_of_another_project_is_the_one_of_its_version() -> None:
    listed = tomllib.loads((FOLDER / "vendored.toml").read_text())["file"]
    for file in listed:
        assert set(file) == {"name", "package", "path", "version", "licence", "sha256"}, file
        assert hashlib.sha256((FOLDER / file["name"]).read_bytes()).hexdigest() == file["sha256"], file["name"]
    there = {path.name for path in FOLDER.iterdir() if path.suffix in TYPES}
    assert there == OWN | {file["name"] for file in listed}, "a file of another project needs an entry in vendored.toml"


def test_the_files_of_a_page_leave_room_for_the_page() -> None:
    assert sum(len(file.compressed) for file in files().values()) < LIMIT_BYTES * 0.6


def test_own_files_ask_no_other_site_and_have_no_inline_script_or_style() -> None:
    for name in OWN:
        text = (FOLDER / name).read_text().replace("http://www.w3.org/2000/svg", "")
        assert "://" not in text and "@import" not in text, name
    for template in (FOLDER.parent / "templates").rglob("*.html"):
        text = template.read_text()
        assert "://" not in text and "style=" not in text and "<style" not in text and " onclick" not in text, template
        assert text.count("<script") == text.count("<script src="), template
