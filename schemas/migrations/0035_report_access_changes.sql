-- API processes use what they have read of a user for up to a second (decision 38). A transaction that changes any of it has to
-- wait that long after its commit. So that no statement can forget it, these triggers tell its client: INFO is always sent to the
-- client, whatever client_min_messages is, and never logged.
CREATE FUNCTION report_access_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE INFO 'This changes who may do what; API processes may use what they have read for one more second.'
        USING ERRCODE = 'ST001';   -- schemas/postgres/connection.py: ACCESS_CHANGED
    RETURN NULL;
END $$;

-- All that the request of a user is authorized by, or shows of the user: what `find_user` in schemas/identity/users.py reads. Not
-- joined_at and claims_at, which by themselves refuse nothing and are not shown. An INSERT changes nothing that was read: a user
-- without a row is read at each request.
CREATE TRIGGER report_access_change AFTER UPDATE ON users FOR EACH ROW
    WHEN ((OLD.email, OLD.name, OLD.role, OLD.customer_id, OLD.revoked_at, OLD.access_version, OLD.sessions_after, OLD.access_since)
        IS DISTINCT FROM
        (NEW.email, NEW.name, NEW.role, NEW.customer_id, NEW.revoked_at, NEW.access_version, NEW.sessions_after, NEW.access_since))
    EXECUTE FUNCTION report_access_change();
CREATE TRIGGER report_access_change AFTER UPDATE ON customers FOR EACH ROW
    WHEN (OLD.deleted_at IS DISTINCT FROM NEW.deleted_at)
    EXECUTE FUNCTION report_access_change();
CREATE TRIGGER report_removal AFTER DELETE ON users FOR EACH ROW EXECUTE FUNCTION report_access_change();
