-- What people do with dead letters, and the groups of dead letters.

-- =====================================================================================================================
-- outbox
-- =====================================================================================================================

ALTER TABLE message_events
    ADD before jsonb,                              -- of an edit: the body before it; null: another action, or before this migration
    ADD after jsonb,                               -- and the body after it
    DROP CONSTRAINT message_events_action_check,
    ADD CONSTRAINT message_events_action_check CHECK (action IN ('replay', 'discard', 'restore', 'edit', 'trigger'));

ALTER TABLE replays
    ADD cancelled_by text,                         -- null: not cancelled, or before this migration
    ADD cancelled_because text;                    -- null: also if no reason was given

-- A group has now the words of its error, too. Relays regroup the dead letters of groups without them, some at a time.
ALTER TABLE failure_groups
    ADD message text;                              -- the error without numbers, ids, quoted values and addresses; null: of a
                                                   -- process of the version before, whose fingerprint is not of the message
COMMENT ON TABLE failure_groups IS
    'One kind of dead letter: the same actor, error class, frame and words of the error. One alert is sent for each.';
CREATE INDEX failure_groups_without_message ON failure_groups (last_at) WHERE message IS NULL;

-- Groups of unrecognized messages have a fingerprint like those of dead messages.
CREATE OR REPLACE VIEW listed_unrecognized_messages AS
    SELECT id, 'unrecognized' AS kind, NULL::text AS actor, queue,
           CASE WHEN discarded_at IS NULL THEN 'dead' ELSE 'discarded' END AS state, reason AS error,
           left(md5(queue || ' ' || reason), 16) AS fingerprint,
           0 AS attempts, 0 AS replays, at AS created_at, at AS died_at, encode(body, 'escape') AS body
    FROM unrecognized_messages;
CREATE INDEX unrecognized_messages_of_group ON unrecognized_messages (left(md5(queue || ' ' || reason), 16), at, id);
-- to count them by group
CREATE INDEX unrecognized_messages_by_group ON unrecognized_messages (queue, reason, at) WHERE discarded_at IS NULL;
DROP INDEX unrecognized_messages_kept;
