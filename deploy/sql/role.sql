-- The role with the least rights that pgevict needs. Run this as an administrator, in the database with the tables:
--
--   psql -v ON_ERROR_STOP=1 -f deploy/sql/role.sql "$ADMIN_DATABASE_URL"
--
-- It may connect, and that is all: LISTEN, NOTIFY, and what pgevict reads of the catalog are open to every role that may
-- connect, so it needs no right on any schema or table, and can read none of your rows. Which is also to say: every role
-- that may connect to the database can listen to what the triggers send.
--
-- It is the same for both set-ups:
--   - your own triggers, with the extension tcn or a function like notify_event;
--   - the triggers of "pgevict triggers". Whoever runs your migrations makes those, since to make and drop triggers takes
--     the owner of the tables, and CREATE on the database for the schema pgevict. The sidecar needs none of that, nor do
--     the roles that write to the tables need any right for it.
--
-- Two things of "pgevict doctor" ask for more, and it says so where it lacks them: SELECT on a table, to see how long its
-- rows are, and pg_read_all_stats, to name whoever holds up the notification queue.
CREATE ROLE pgevict LOGIN NOINHERIT CONNECTION LIMIT 20; -- a sidecar uses two connections, and one more for a moment
DO $$ BEGIN EXECUTE format('GRANT CONNECT ON DATABASE %I TO pgevict', current_database()); END $$;
-- Then give it a password, or let it in by certificate: \password pgevict
