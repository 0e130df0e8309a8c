-- The roles of a Supabase cluster. Run once, as the superuser supabase_admin.

create role anon nologin noinherit;
create role authenticated nologin noinherit;
create role service_role nologin noinherit bypassrls;
create role authenticator login noinherit;
grant anon, authenticated, service_role to authenticator;

-- What users call the database owner. Not a superuser: what it may not do here, it may not do there.
create role postgres login createdb createrole bypassrls;
grant anon, authenticated, service_role to postgres;

create role supabase_auth_admin nologin noinherit;
create role supabase_storage_admin nologin noinherit;
-- Supabase lets postgres make policies on storage.objects through an extension; here it is a
-- member of the owner, and an event trigger refuses the rest (see database.sql).
grant supabase_storage_admin to postgres;

alter role anon set statement_timeout = '3s';
alter role authenticated set statement_timeout = '8s';
alter role authenticator set statement_timeout = '8s';
alter role authenticator set lock_timeout = '8s';
