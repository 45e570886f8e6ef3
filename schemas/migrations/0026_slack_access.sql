-- =====================================================================================================================
-- slack
-- =====================================================================================================================

-- A call of Slack's Web API that the bot token may not make: the token is not valid any more, or lacks a scope.
CREATE TABLE slack_access_losses (
    token_hash bytea NOT NULL,         -- as in slack_revocations: a new token begins without losses
    method text NOT NULL,              -- of the Web API, such as chat.postMessage
    problem text NOT NULL,             -- Slack's error code
    needed text NOT NULL,              -- the scopes of which the call needs one, separated by commas; empty: Slack names none
    lost_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    try_at timestamptz NOT NULL,       -- no message makes such a call before
    PRIMARY KEY (token_hash, method)
);
COMMENT ON TABLE slack_access_losses IS
    'A method of Slack''s Web API that Slack refuses to the bot token. Messages that need it wait, until it is found again.';
