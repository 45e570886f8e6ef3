"""The routes of the pages of customers, a part of CONSOLE_ROUTES."""

from litestar.handlers import HTTPRouteHandler

from api.console.customers import details, listing, mappings, people, pillars, slack, tasks, xero

CUSTOMER_ROUTES: list[tuple[str, str, HTTPRouteHandler]] = [
    ("GET", "/console/customers", listing.show_customers),
    ("GET", "/console/customers/new", listing.show_new_customer),
    ("POST", "/console/customers", listing.create_customer),
    ("GET", "/console/customers/{customer_id:str}", details.show_customer),
    ("GET", "/console/customers/{customer_id:str}/edit", details.show_edit_customer),
    ("POST", "/console/customers/{customer_id:str}/edit", details.change_customer),
    ("POST", "/console/customers/{customer_id:str}/delete", details.delete_customer),
    ("POST", "/console/customers/{customer_id:str}/pillars", pillars.add_pillar),
    ("GET", "/console/customers/{customer_id:str}/pillars/{pillar_id:str}", pillars.show_pillar),
    ("POST", "/console/customers/{customer_id:str}/pillars/{pillar_id:str}", pillars.change_pillar),
    ("POST", "/console/customers/{customer_id:str}/pillars/{pillar_id:str}/delete", pillars.delete_pillar),
    ("GET", "/console/customers/{customer_id:str}/people", people.show_people),
    ("POST", "/console/customers/{customer_id:str}/people", people.invite),
    ("POST", "/console/customers/{customer_id:str}/people/{user_id:str}/resend", people.resend_invitation),
    ("POST", "/console/customers/{customer_id:str}/people/{user_id:str}/remove", people.remove),
    ("GET", "/console/customers/{customer_id:str}/tasks", tasks.show_tasks),
    ("POST", "/console/customers/{customer_id:str}/tasks", tasks.create_task),
    ("GET", "/console/customers/{customer_id:str}/tasks/{task_id:str}", tasks.show_task),
    ("POST", "/console/customers/{customer_id:str}/tasks/{task_id:str}", tasks.change_task),
    ("POST", "/console/customers/{customer_id:str}/tasks/{task_id:str}/status", tasks.set_status),
    ("GET", "/console/customers/{customer_id:str}/mappings", mappings.show_mappings),
    ("GET", "/console/customers/{customer_id:str}/mappings/channels", slack.show_choices),
    ("POST", "/console/customers/{customer_id:str}/mappings/channels", slack.add_channel),
    ("GET", "/console/customers/{customer_id:str}/mappings/channels/{mapping_id:str}", mappings.show_channel),
    ("POST", "/console/customers/{customer_id:str}/mappings/channels/{mapping_id:str}", mappings.change_channel),
    ("POST", "/console/customers/{customer_id:str}/mappings/channels/{mapping_id:str}/delete", mappings.delete_channel),
    ("GET", "/console/customers/{customer_id:str}/xero", xero.show_choices),
    ("POST", "/console/customers/{customer_id:str}/xero", xero.save_mapping),
]
