-- What a new Supabase database holds before its owner does anything: stand-ins for the schemas
-- auth and storage, and the generous default privileges that make missing RLS dangerous.

grant all on schema public to postgres, anon, authenticated, service_role;
do $$
declare
    maker text;
    things text;
begin
    foreach maker in array array['postgres', 'supabase_admin'] loop
        foreach things in array array['tables', 'sequences', 'functions'] loop
            execute format(
                'alter default privileges for role %I in schema public grant all on %s '
                'to postgres, anon, authenticated, service_role', maker, things);
        end loop;
    end loop;
end $$;

create schema extensions;
grant usage on schema extensions to postgres, anon, authenticated, service_role;


create schema auth authorization supabase_auth_admin;
grant usage on schema auth to postgres, anon, authenticated, service_role;

create table auth.users (
    id uuid primary key,
    aud text default 'authenticated',
    role text default 'authenticated',
    email text unique,
    raw_app_meta_data jsonb,
    raw_user_meta_data jsonb,
    created_at timestamptz default now(),
    updated_at timestamptz default now()
);
alter table auth.users owner to supabase_auth_admin;
alter table auth.users enable row level security;
grant all on auth.users to postgres;

create function auth.jwt() returns jsonb language sql stable as $$
    select coalesce(
        nullif(current_setting('request.jwt.claim', true), ''),
        nullif(current_setting('request.jwt.claims', true), '')
    )::jsonb
$$;

create function auth.uid() returns uuid language sql stable as $$
    select (auth.jwt() ->> 'sub')::uuid
$$;

create function auth.role() returns text language sql stable as $$
    select auth.jwt() ->> 'role'
$$;

create function auth.email() returns text language sql stable as $$
    select auth.jwt() ->> 'email'
$$;


create schema storage authorization supabase_storage_admin;
grant usage on schema storage to postgres, anon, authenticated, service_role;

create table storage.buckets (
    id text primary key,
    name text not null unique,
    owner uuid,
    owner_id text,
    public boolean default false,
    avif_autodetection boolean default false,
    file_size_limit bigint,
    allowed_mime_types text[],
    created_at timestamptz default now(),
    updated_at timestamptz default now()
);

create table storage.objects (
    id uuid primary key default gen_random_uuid(),
    bucket_id text references storage.buckets (id),
    name text,
    owner uuid,
    owner_id text,
    version text,
    metadata jsonb,
    user_metadata jsonb,
    path_tokens text[] generated always as (string_to_array(name, '/')) stored,
    created_at timestamptz default now(),
    updated_at timestamptz default now(),
    last_accessed_at timestamptz default now(),
    unique (bucket_id, name)
);

alter table storage.buckets owner to supabase_storage_admin;
alter table storage.objects owner to supabase_storage_admin;
alter table storage.buckets enable row level security;
alter table storage.objects enable row level security;
grant all on storage.buckets, storage.objects to postgres, anon, authenticated, service_role;

create function storage.foldername(name text) returns text[] language sql immutable as $$
    select parts[1 : array_length(parts, 1) - 1] from string_to_array(name, '/') as parts
$$;

create function storage.filename(name text) returns text language sql immutable as $$
    select parts[array_length(parts, 1)] from string_to_array(name, '/') as parts
$$;

create function storage.protect_delete() returns trigger language plpgsql as $$
begin
    if coalesce(current_setting('storage.allow_delete_query', true), '') <> 'true' then
        raise exception 'Direct deletion from storage tables is not allowed.'
            using errcode = '42501';
    end if;
    return null;
end $$;
create trigger protect_buckets_delete before delete on storage.buckets
    for each statement execute function storage.protect_delete();
create trigger protect_objects_delete before delete on storage.objects
    for each statement execute function storage.protect_delete();


-- Ours, for the tests alone: remember the rows of a moment, and bring them back.
create schema project;
create table project.kept_tables (name regclass primary key, copy regclass);
create table project.kept_sequences (name regclass primary key, value bigint);

create function project.refuse_foreign_changes() returns event_trigger language plpgsql as $$
declare
    change record;
begin
    if session_user <> 'postgres' then
        return;
    end if;
    for change in select * from pg_event_trigger_ddl_commands() loop
        if change.schema_name in ('auth', 'storage') and change.object_type <> 'policy' then
            raise exception 'must be owner of %', change.object_identity using errcode = '42501';
        end if;
    end loop;
end $$;
create event trigger refuse_foreign_changes on ddl_command_end
    execute function project.refuse_foreign_changes();

create view project.tables as
    select class.oid::regclass as name
    from pg_class as class
    join pg_namespace as space on space.oid = class.relnamespace
    where class.relkind in ('r', 'p') and not class.relispartition
      and (space.nspname in ('public', 'storage') or class.oid = 'auth.users'::regclass);

create function project.keep() returns void language plpgsql as $$
declare
    found regclass;
    filled boolean;
begin
    for found in select copy from project.kept_tables where copy is not null loop
        execute format('drop table %s', found);
    end loop;
    truncate project.kept_tables, project.kept_sequences;
    for found in select name from project.tables loop
        execute format('select exists (select from %s)', found) into filled;
        if filled then
            execute format('create table project.rows_%s as table %s', found::oid, found);
        end if;
        insert into project.kept_tables
            values (found, to_regclass(format('project.rows_%s', found::oid)));
    end loop;
    insert into project.kept_sequences
        select format('%I.%I', schemaname, sequencename)::regclass, last_value
        from pg_sequences where schemaname = 'public';
end $$;

create function project.bring_back() returns void language plpgsql as $$
declare
    kept record;
    columns text;
begin
    set local session_replication_role = replica; -- no triggers, no foreign keys
    set local lock_timeout = '5s';
    for kept in select name from project.tables where pg_relation_size(name) > 1000000 loop
        execute format('truncate %s cascade', kept.name); -- far faster than delete, when it is much
    end loop;
    for kept in select tables.name, copy from project.tables left join project.kept_tables using (name)
    loop
        execute format('delete from %s', kept.name);
        if kept.copy is not null then
            select string_agg(quote_ident(attname), ', ') into columns from pg_attribute
            where attrelid = kept.name and attnum > 0 and not attisdropped and attgenerated = '';
            execute format('insert into %s (%s) overriding system value select %s from %s',
                           kept.name, columns, columns, kept.copy);
        end if;
    end loop;
    perform setval(name, coalesce(value, 1), value is not null) from project.kept_sequences
        where name::oid in (select oid from pg_class);
end $$;
