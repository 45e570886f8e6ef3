from tests.api.streams import listening


def test_smoke(given, stint):
    a = given.person()
    with listening(a) as s:
        t = given.task(a)
        s.heard("task", t["id"])
        given.stopped(a, t)
        s.heard("activeTimer", a.id)
        print(s.events, s.answer.headers)
