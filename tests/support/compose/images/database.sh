#!/bin/sh
# What supabase/postgres does at its first start, as far as this project needs it.
set -eu
export PATH=/usr/lib/postgresql/15/bin:$PATH
data=/var/lib/postgresql/data
as_postgres() { setpriv --reuid=postgres --regid=postgres --init-groups "$@"; }
sql() { as_postgres psql -q -v ON_ERROR_STOP=1 -U supabase_admin "$@"; }
mkdir -p "$data" /var/run/postgresql
chown postgres: "$data" /var/run/postgresql
chmod 700 "$data"
if [ ! -s "$data/PG_VERSION" ]; then
    as_postgres initdb -D "$data" --username=supabase_admin --locale=C --encoding=UTF8 --auth=trust > /dev/null
    as_postgres pg_ctl -D "$data" -w -o "-c listen_addresses=''" start > /dev/null
    sql -d template1 -f /stand_in/roles.sql
    sql -d template1 -c 'drop database postgres' -c 'create database postgres owner postgres'
    sql -d postgres -f /stand_in/database.sql
    sql -d postgres -c 'grant anon, authenticated, service_role to supabase_storage_admin' \
        -c 'alter role supabase_storage_admin login'
    echo "alter role postgres password :'word'" | sql -d postgres -v word="$POSTGRES_PASSWORD"
    for script in /docker-entrypoint-initdb.d/init-scripts/*.sql; do
        sql -d postgres -f "$script"
    done
    as_postgres pg_ctl -D "$data" -w -m fast stop > /dev/null
fi
exec setpriv --reuid=postgres --regid=postgres --init-groups "$@"
