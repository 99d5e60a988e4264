-- Makes the database role of a cluster's workers, or brings it up to date: it can read whether a run's claim is still
-- valid, and nothing else. Run it with psql as the owner of the tables, once AutoFlow has made them:
--   psql --dbname=URI --file=worker-role.sql
-- It takes the role's password from the file that AUTOFLOW_WORKER_DB_PASSWORD_FILE names, or from the docker secret.
\set ON_ERROR_STOP on
\set QUIET on
\set password `cat "${AUTOFLOW_WORKER_DB_PASSWORD_FILE:-/run/secrets/AUTOFLOW_WORKER_DB_PASSWORD}"`

BEGIN;
-- Two that start at the same moment wait for each other.
SELECT pg_advisory_xact_lock(hashtext('autoflow_worker')) \g /dev/null
SELECT 'CREATE ROLE autoflow_worker' WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'autoflow_worker') \gexec
ALTER ROLE autoflow_worker LOGIN NOINHERIT NOCREATEDB NOCREATEROLE PASSWORD :'password';
ALTER ROLE autoflow_worker SET default_transaction_read_only = on;
-- PostgreSQL 14 and older let every role make tables, and all of them temporary ones.
REVOKE CREATE ON SCHEMA public FROM PUBLIC;
REVOKE TEMPORARY ON DATABASE :"DBNAME" FROM PUBLIC;
REVOKE ALL ON ALL TABLES IN SCHEMA public FROM autoflow_worker;
GRANT USAGE ON SCHEMA public TO autoflow_worker;
GRANT CONNECT ON DATABASE :"DBNAME" TO autoflow_worker;
GRANT SELECT (id, state, heartbeat_at) ON runs TO autoflow_worker;
COMMIT;
