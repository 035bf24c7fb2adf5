#!/bin/sh
# Makes the roles and databases of engine and Label Studio in a PostgreSQL. Harmless to repeat: what is
# there stays, and only the passwords are set anew.
#
# The passwords come from the variables REFSTAR_DB_PASSWORD and LABEL_STUDIO_DB_PASSWORD, which
# `engine init-env --postgres HOST` puts into .env. psql's own variables (PGHOST, PGUSER) say where the
# server is; it has to be called by a role that may make roles and databases.
#
# In parentheses, since the entrypoint of PostgreSQL's image may read this file as its own and goes on after it.
(
set -eu
: "${REFSTAR_DB_PASSWORD:?set it: engine init-env --postgres HOST writes it into .env}"
: "${LABEL_STUDIO_DB_PASSWORD:?set it: engine init-env --postgres HOST writes it into .env}"

psql --no-psqlrc --quiet --set ON_ERROR_STOP=1 --dbname postgres <<'SQL'
\getenv refstar_password REFSTAR_DB_PASSWORD
\getenv label_studio_password LABEL_STUDIO_DB_PASSWORD

SELECT format('CREATE ROLE %I LOGIN', role) FROM unnest(ARRAY['refstar', 'label_studio']) AS role
WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = role) \gexec
ALTER ROLE refstar PASSWORD :'refstar_password';
ALTER ROLE label_studio PASSWORD :'label_studio_password';

SELECT format('CREATE DATABASE %I OWNER %I', role, role)
FROM unnest(ARRAY['refstar', 'label_studio']) AS role
WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = role) \gexec
REVOKE CONNECT ON DATABASE refstar, label_studio FROM PUBLIC;
SQL
)
