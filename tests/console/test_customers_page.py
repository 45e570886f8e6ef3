"""The pages of customers: what each form does, and what it says when it is refused."""

import pytest

from tests.api.invitations import address, mails_to, reset_rate_limits
from tests.console.client import Browser, Browsers, Page
from tests.console.html import Element
from tests.support.given import Given, Json
from tests.support.installation import Installation


def path(customer: Json, rest: str = "") -> str:
    return f"/console/customers/{customer['id']}{rest}"


def form(page: Page, action: str) -> Element:
    """The form of the page that is sent to that path."""
    return page.html.one("form", method="post", action=action)


def flash(page: Page) -> str:
    return page.html.one("div", id="flash").text


def page_of(browser: Browser, action: str) -> dict[str, str]:
    """The fields of the form on the page with its path."""
    return form(browser.get(action), action).fields()


def test_a_customer_is_created_found_changed_and_deleted(given: Given, browsers: Browsers, stint: Installation) -> None:
    browser, name = browsers.person(), f"Zwölf & Söhne {given.new_id()[:8]}"
    new = form(browser.get("/console/customers/new"), "/console/customers")
    refused = browser.submit(new, {"name": " ", "email": "nonsense"})
    assert refused.status == 422 and refused.errors.keys() == {"name", "email"}
    assert refused.html.one("input", name="email")["value"] == "nonsense", "what was typed stays"

    page = browser.submit(new, {"name": name, "increment": "15", "mode": "up", "notes": "<b>bold</b>"})
    assert page.title == name and f"Created {name}." in flash(page) and "<b>bold</b>" in page.text
    assert "Each bill up to 15 minutes" in page.text and "General Support" in page.text
    again = browser.submit(new, {"name": name, "increment": "15", "mode": "up", "notes": "<b>bold</b>"})
    assert again.answer.url.path == page.answer.url.path, "the same form creates one customer"
    other = browser.submit(new, {"name": f"{name} II"})
    assert other.status == 422 and "was sent before" in other.text
    assert browser.submit(form(other, "/console/customers")).title == f"{name} II"

    listed = browser.get("/console/customers", search=f"söhne {name[-8:].upper()}")
    assert [link.text for link in listed.html.one("tbody").all("a")] == [name, f"{name} II"]
    assert "No customer has these words" in browser.get("/console/customers", search="%_").text

    base = page.answer.url.path
    edit = form(browser.get(f"{base}/edit"), f"{base}/edit")
    assert edit.fields()["increment"] == "15"
    page = browser.submit(edit, {"name": f"{name} III", "mode": "nearest"})
    assert page.title == f"{name} III" and "to the nearest 15 minutes" in page.text
    values = edit.fields() | {"version": "2"}
    values.pop("active")
    assert browser.post(f"{base}/edit", values).text.count("Inactive") >= 1
    assert [link.text for link in browser.get("/console/customers", search=name).html.one("tbody").all("a")] == [f"{name} II"]
    with_inactive = browser.get("/console/customers", search=name, inactive="on").html.one("tbody")
    assert [link.text for link in with_inactive.all("a")] == [name, f"{name} II"]

    gone = browser.submit(form(browser.get(f"{base}/edit"), f"{base}/delete"))
    assert gone.title == "Customers" and "Deleted the customer" in flash(gone)
    assert browser.get(base).status == 404


def test_what_changed_since_it_was_shown_is_refused_and_shown_again(given: Given, browsers: Browsers) -> None:
    admin, browser = given.admin(), browsers.person()
    customer = given.customer(admin)
    pillar = admin.post(f"/api/customers/{customer['id']}/pillars", {"name": "Hosting"})
    task = given.task(admin, customer)
    channel_id = f"C{given.new_id()[:8].upper()}"
    channel = admin.post(
        "/api/slack/channel-mappings", {"channelId": channel_id, "channelName": "acme", "customerId": customer["id"]}
    )
    cases = {
        path(customer, "/edit"): ("name", f"/api/customers/{customer['id']}", "name"),
        path(customer, f"/pillars/{pillar['id']}"): ("name", f"/api/customers/{customer['id']}/pillars/{pillar['id']}", "name"),
        path(customer, f"/tasks/{task['id']}"): ("title", f"/api/tasks/{task['id']}", "title"),
        path(customer, f"/mappings/channels/{channel['id']}"): (
            "channel_name",
            f"/api/slack/channel-mappings/{channel['id']}",
            "channelName",
        ),
    }
    for page, (field, api, key) in cases.items():
        shown = form(browser.get(page), page)
        admin.put(api, {key: "From another page"})
        refused = browser.submit(shown, {field: "Typed here"})
        assert refused.status == 422 and "has changed since you read it" in refused.text, page
        assert "From another page" in refused.text and refused.html.one("input", name=field)["value"] == "Typed here", page
        saved = browser.submit(form(refused, page))
        assert saved.status == 200 and "Saved" in flash(saved), page
        assert browser.submit(form(browser.get(page), page), {"version": "x"}).status == 422, page


def test_buttons_of_rows_that_have_changed_do_nothing(given: Given, browsers: Browsers) -> None:
    admin, browser = given.admin(), browsers.person()
    customer = given.customer(admin)
    task = given.task(admin, customer)
    archive = path(customer, f"/tasks/{task['id']}/status")
    delete = path(customer, "/delete")
    shown, edit = browser.get(path(customer, "/tasks")), browser.get(path(customer, "/edit"))
    admin.put(f"/api/tasks/{task['id']}", {"title": "Renamed"})
    admin.put(f"/api/customers/{customer['id']}", {"notes": "new"})
    refused = browser.submit(form(shown, archive))
    assert refused.status == 422 and "Renamed" in refused.text
    assert "Status Open" in refused.html.one("dl", class_="facts").text
    assert admin.get(f"/api/tasks/{task['id']}")["status"] == "open"
    assert browser.submit(form(edit, delete)).status == 422
    assert admin.get(f"/api/customers/{customer['id']}")["notes"] == "new"


def test_a_deletion_says_what_prevents_it(given: Given, browsers: Browsers, stint: Installation) -> None:
    consultant, browser = given.person(), browsers.person()
    customer = given.customer(consultant)
    pillar = consultant.post(f"/api/customers/{customer['id']}/pillars", {"name": "Hosting"})
    task = given.task(consultant, customer, pillarId=pillar["id"])
    entry = given.logged(consultant, task)
    consultant.post(f"/api/tasks/{task['id']}/start")
    of_pillar = path(customer, f"/pillars/{pillar['id']}")
    for page in (path(customer, "/edit"), of_pillar):
        delete = path(customer, "/delete") if page.endswith("edit") else f"{of_pillar}/delete"
        refused = browser.submit(form(browser.get(page), delete))
        assert refused.status == 422 and "can't be deleted" in refused.text
        reasons = [reason.text for reason in refused.html.one("div", id="obstacles").all("li")]
        name = consultant.email.partition("@")[0]
        assert reasons == [f"Running timer: {name}, {task['title']}", f"Time bill: {name}, Mon 2 Mar, pending"], reasons
        assert "checked" in refused.html.one("input", id="f-active").attributes, "what the form shows is the stored row"
    consultant.http.delete(f"/api/tasks/{task['id']}/timer")
    consultant.http.delete(f"/api/time-entries/{entry['id']}")


def test_pillars_are_added_renamed_made_inactive_and_deleted(given: Given, browsers: Browsers) -> None:
    browser, admin = browsers.person(), given.admin()
    customer = given.customer(admin)
    add = form(browser.get(path(customer)), path(customer, "/pillars"))
    assert "Added the pillar Hosting." in flash(browser.submit(add, {"name": "Hosting"}))
    twice = browser.submit(add, {"name": "HOSTING"})
    assert twice.status == 422 and "Another pillar of this customer has this name." in twice.text
    assert browser.submit(add, {"name": ""}).errors.keys() == {"name"}

    pillars = {pillar["name"]: pillar["id"] for pillar in admin.get(f"/api/customers/{customer['id']}/pillars")["items"]}
    hosting = path(customer, f"/pillars/{pillars['Hosting']}")
    edit = form(browser.get(hosting), hosting).fields() | {"name": "Hosting and mail"}
    edit.pop("active")
    saved = browser.post(hosting, edit)
    assert "Hosting and mail Inactive" in saved.text
    assert "Deleted the pillar" in flash(browser.submit(form(browser.get(hosting), f"{hosting}/delete")))

    default = path(customer, f"/pillars/{pillars['General Support']}")
    assert not list(browser.get(default).html.all("form", action=f"{default}/delete"))
    refused = browser.post(f"{default}/delete", {"version": "1"})
    assert refused.status == 422 and "default pillar" in refused.text
    other = given.customer(admin)
    assert browser.get(path(other, f"/pillars/{pillars['General Support']}")).status == 404


def test_people_are_invited_again_and_removed_with_the_limits_of_the_api(
    given: Given, browsers: Browsers, stint: Installation
) -> None:
    reset_rate_limits(stint)
    browser, customer, email = browsers.person(), given.customer(given.admin()), address(given)
    page = path(customer, "/people")
    invite = form(browser.get(page), page)
    assert "Nobody of this customer has access" in browser.get(page).text
    refused = browser.submit(invite, {"name": "Jo\tMiller", "email": "jo"})
    assert refused.errors.keys() == {"name", "email"}
    invited = browser.submit(invite, {"name": "Jo Miller", "email": email, "role": "customer_admin"})
    assert f"A mail goes to {email}" in flash(invited) and "Jo Miller" in invited.text and "Invited" in invited.text
    assert "already" in browser.submit(invite, {"name": "Jo", "email": email}).text
    colleague = given.person()
    assert "another account" in browser.submit(invite, {"name": "Jo", "email": colleague.email}).text

    [user] = given.admin().get(f"/api/customers/{customer['id']}/users")["items"]
    resend = form(invited, f"{page}/{user['id']}/resend")
    assert "again" in flash(browser.submit(resend)) and len(mails_to(stint, email)) == 2
    assert "Note:" in flash(browser.submit(resend)), "once a minute"
    assert len(mails_to(stint, email)) == 2

    remove = form(invited, f"{page}/{user['id']}/remove")
    assert "Removed the person" in flash(browser.submit(remove))
    assert "no access any more" in flash(browser.submit(remove)), "two at once"
    assert email not in browser.get(page).text


def test_a_person_of_another_customer_is_not_removed(given: Given, browsers: Browsers) -> None:
    own, other = given.customer(given.admin()), given.customer(given.admin())
    person = given.person("customer_user", other["id"])
    page = browsers.person().post(path(own, f"/people/{person.id}/remove"))
    assert "no access any more" in flash(page)
    assert person.get("/api/me")["id"] == person.id


def test_tasks_are_created_listed_renamed_and_archived(given: Given, browsers: Browsers) -> None:
    browser, admin = browsers.person(), given.admin()
    customer = given.customer(admin)
    page = path(customer, "/tasks")
    create = form(browser.get(page), page)
    assert browser.submit(create, {"title": "\u200b"}).errors.keys() == {"title"}
    made = browser.submit(create, {"title": "Servers"})
    assert "Created the task Servers." in flash(made)
    assert browser.submit(create, {"title": "Servers"}).status == 200
    [task] = admin.get("/api/tasks", customerId=customer["id"])["items"]
    assert (task["title"], task["source"]) == ("Servers", "web"), "the same form creates one task"
    assert browser.submit(create, {"title": "Other"}).status == 422

    of_task = f"{page}/{task['id']}"
    edit = form(browser.get(of_task), of_task)
    wrong = browser.submit(edit, {"due_date": "tomorrow", "status": "gone", "pillar_id": "x"})
    assert wrong.errors.keys() == {"due_date", "status", "pillar_id"}
    assert "no such pillar" in browser.submit(edit, {"pillar_id": given.new_id()}).errors["pillar_id"]
    saved = browser.submit(edit, {"title": "Mail servers", "due_date": "2026-03-02"})
    assert "Mail servers" in saved.text and "Mon 2 Mar" in saved.text

    name = admin.email.partition("@")[0]
    assert page_of(browser, of_task)["assignee_id"] == "" and page_of(browser, of_task)["priority"] == "normal"
    given_to = browser.submit(form(browser.get(of_task), of_task), {"assignee_id": admin.id, "priority": "urgent"})
    row = next(row.text for row in given_to.html.all("tr") if "Mail servers" in row.text)
    assert "Urgent" in row and name in row
    assert (found := admin.get(f"/api/tasks/{task['id']}"))["assigneeId"] == admin.id and found["priority"] == "urgent"
    stale = browser.submit(edit, {"assignee_id": ""})
    assert stale.status == 422 and f"Assignee {name} Priority Urgent" in stale.text
    assert page_of(browser, of_task)["assignee_id"] == admin.id, "nothing was replaced"
    outsider = browser.submit(form(browser.get(of_task), of_task), {"assignee_id": given.new_id(), "priority": "loud"})
    assert outsider.errors.keys() == {"priority"}
    outsider = browser.submit(form(browser.get(of_task), of_task), {"assignee_id": given.new_id()})
    assert outsider.errors == {"assignee_id": "No consultant has this id. Choose one that the page lists."}
    nobody = browser.submit(form(browser.get(of_task), of_task), {"assignee_id": "", "priority": "low"})
    assert nobody.status == 200 and admin.get(f"/api/tasks/{task['id']}")["assigneeId"] is None
    both = browser.submit(form(browser.get(page), page), {"title": "Disks", "assignee_id": admin.id, "priority": "high"})
    assert "Created the task Disks." in flash(both)
    disks = next(each for each in admin.get("/api/tasks", customerId=customer["id"])["items"] if each["title"] == "Disks")
    assert (disks["assigneeId"], disks["priority"]) == (admin.id, "high")

    archived = browser.submit(form(browser.get(page), f"{of_task}/status"))
    assert "Archived the task Mail servers." in flash(archived)
    assert "Mail servers" not in browser.get(page, status="open").text
    opened = browser.submit(form(browser.get(page, status="archived"), f"{of_task}/status"))
    assert "Opened the task" in flash(opened)
    other = path(given.customer(admin), f"/tasks/{task['id']}")
    assert (
        browser.get(other).status == 404 and browser.post(f"{other}/status", {"status": "done", "version": "4"}).status == 404
    )
    assert browser.get(page, status="nonsense").status == 422


def test_channels_are_added_changed_and_removed(given: Given, browsers: Browsers) -> None:
    browser, admin = browsers.person(), given.admin()
    customer, channel_id = given.customer(admin), f"C{given.new_id()[:8].upper()}"
    page = path(customer, "/mappings")
    assert browser.get(page).html.one("a", href=f"{page}/channels").text == "Add a channel"
    add = form(browser.get(f"{page}/channels"), f"{page}/channels")
    assert browser.submit(add, {"channel_id": "#acme"}).errors.keys() == {"channel_id", "channel_name"}
    added = browser.submit(add, {"channel_id": channel_id, "channel_name": "acme"})
    assert "#acme belongs to this customer now." in flash(added)
    assert "has a mapping already" in browser.submit(add, {"channel_id": channel_id, "channel_name": "acme"}).text
    of_channel = next(link["href"] for link in added.html.all("a") if link.text == "#acme")
    saved = browser.submit(form(browser.get(of_channel), of_channel), {"channel_name": "acme-support"})
    assert "#acme-support" in saved.text
    neighbour = given.customer(admin)  # with a channel of its own
    body = {"channelId": f"{channel_id}B", "channelName": "other", "customerId": neighbour["id"]}
    admin.post("/api/slack/channel-mappings", body)
    other = of_channel.replace(customer["id"], neighbour["id"])
    assert browser.get(other).status == 404 and browser.post(f"{other}/delete", {"version": "2"}).status == 404
    ended = browser.submit(form(browser.get(of_channel), f"{of_channel}/delete"))
    assert "belongs to no customer now" in flash(ended) and "#acme-support" not in ended.text


def test_without_xero_the_mapping_says_so_and_the_rest_of_the_page_works(given: Given, browsers: Browsers) -> None:
    browser, admin = browsers.admin(), given.admin()
    customer = given.customer(admin, xeroProjectId="p1")
    page = browser.get(path(customer, "/xero"))
    assert "Xero is not connected" in page.text and page.html.one("main").one("a", href="/console/connections")
    part = browser.get(path(customer, "/xero"), headers={"HX-Request": "true"})
    assert "<main" not in part.answer.text and "Xero is not connected" in part.html.text
    cleared = browser.get(path(customer, "/xero"), project="none")
    assert "Saved the mapping to Xero." in flash(browser.submit(form(cleared, path(customer, "/xero"))))
    assert admin.get(f"/api/customers/{customer['id']}")["xeroProjectId"] is None


@pytest.mark.parametrize("rest", ["", "/edit", "/people", "/tasks", "/mappings", "/xero"])
def test_an_unknown_or_deleted_customer_has_no_pages(rest: str, given: Given, browsers: Browsers) -> None:
    browser = browsers.person()
    assert browser.get(f"/console/customers/{given.new_id()}{rest}").status == 404
    assert browser.get(f"/console/customers/nonsense{rest}").status in (404, 422)
