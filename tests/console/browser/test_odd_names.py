"""Names as people have them: 120 characters without a blank, Chinese, from right to left. No page breaks with one of them."""

import pytest

from tests.console.browser.visitors import Visitors
from tests.support.given import Given

pytestmark = pytest.mark.browser

NAMES = {
    "long": "Donaudampfschifffahrtselektrizitätenhauptbetriebswerkbauunterbeamtengesellschaft".ljust(120, "x"),
    "chinese": "北京时间管理咨询有限公司" * 10,
    "right to left": "חברת ייעוץ ושירותי תוכנה 24 בע״מ " * 3 + "שלום (x)",
}


@pytest.mark.parametrize("kind", NAMES)
def test_no_page_breaks_with_a_name(kind: str, visitors: Visitors, given: Given) -> None:
    name, admin, by = NAMES[kind].strip(), given.admin(), given.person()
    given.stint.rows("UPDATE users SET name = %s WHERE id = ANY(%s::uuid[]) RETURNING 1", name, [admin.id, by.id])
    customer = given.customer(by, name=name, notes=name)
    pillar = by.post(f"/api/customers/{customer['id']}/pillars", {"name": name[:100]})
    task = given.task(by, customer, title=name, pillarId=pillar["id"])
    given.bill(by, task)
    given.approved_bill(by, admin, task)
    by.post(f"/api/tasks/{task['id']}/start", status=201)
    entry = given.stint.value("SELECT id::text FROM time_entries WHERE user_id = %s LIMIT 1", by.id)
    theirs = given.person("customer_user", customer["id"])
    base = f"/console/customers/{customer['id']}"
    visitors.of(admin).inspect(
        "/console",
        f"/console/approve?week=2026-03-02&person={by.id}&open={by.id}.2026-03-02",
        f"/console/hours?person={by.id}&week=2026-03-02",
        f"/console/hours/entries/{entry}?person={by.id}",
        f"/console/reports?start_date=2026-03-01&end_date=2026-03-31&by=customer&then=person&customer_id={customer['id']}",
        f"/console/reports?start_date=2026-03-01&end_date=2026-03-31&by=pillar&customer_id={customer['id']}",
        "/console/customers",
        *(
            base + rest
            for rest in ("", "/edit", f"/pillars/{pillar['id']}", "/people", "/tasks", f"/tasks/{task['id']}", "/mappings")
        ),
    )
    visitors.of(theirs).inspect("/console/my-hours?year=2026")
