"""The console: pages of HTML for people who would rather look than type, at `/console`.

A page is one module and one template: `hours.py` and `templates/hours.html`, with the parts of it that htmx replaces in
`templates/hours/`. Its handlers call the functions of `schemas/` that the API calls, in the same transactions, and have no SQL.

    @get("/console/hours", guards=[require_internal])
    async def show_hours(request: ApiRequest) -> Response[bytes]:
        async with request.database.connection() as conn:
            found = await hours.of_week(conn, request.user.id)
        return page(request, "hours.html", week=found)

    @post("/console/hours/log", guards=[require_internal], status_code=303)
    async def log_hours(request: ApiRequest) -> Response[bytes]:
        form = await read_form(request, HoursForm)        # errors beside their fields; the CSRF token is checked already
        if form.value is not None:
            with form.catching():                         # what the domain refuses becomes an error of the form
                async with request.database.transaction() as conn:
                    await time_entries.create(conn, …)
                return redirect("/console/hours", "Logged.")
        return page(request, "hours.html", status=422, form=form, week=…)

To add a page: the module and the template; lines in CONSOLE_ROUTES of `routes.py`; a line in `NAVIGATION` of `pages.py` if
it is in the navigation; a line for each route in `tests/console/table.py`, which says who may call it.

- `routes.py`: all routes; `sessions.py`: who sends a request, and that a write comes from a page of Stint;
  `cookies.py`; `signing_in/`.
- `pages.py`: `page`, `fragment`, `redirect`. In a template: `me` (the User, or None), `csrf`, `settings`, `show` (which is
  `formats.py`), `static("console.css")`, `path`, `query`, `flash`; `ui` after `{% import "macros.html" as ui with context %}`.
- `forms.py`: forms and filters as pydantic models. `errors.py`: errors as pages. `formats.py`: hours, days and numbers as text.
- Every page works without JavaScript: a form is a GET with its filters in the URL, or a POST that answers 303, or 422 with the
  same page and the errors. htmx replaces parts of a page with `fragment`.
"""
