-- Links that sign a person in to the console once: ./stint up and ./stint console print them.

-- =====================================================================================================================
-- identity
-- =====================================================================================================================

CREATE TABLE sign_in_links (
    token_hash bytea PRIMARY KEY,                          -- SHA-256 of the token in the link, which has 256 random bits
    user_id uuid NOT NULL REFERENCES users ON DELETE CASCADE,
    access_version integer NOT NULL,                       -- of the user when the link was made; with any other it is of no use
    expires_at timestamptz NOT NULL
);
COMMENT ON TABLE sign_in_links IS 'A link that signs a person in to the console once, within ten minutes. Deleted when it is used.';
CREATE INDEX sign_in_links_expired ON sign_in_links (expires_at);
