-- Default privileges on Supabase give the sequence of every new table to everyone as well. 0010 took
-- back those of the tables that there were then; later tables of ours say so in their comment.

do $$
declare
    found record;
begin
    for found in
        select sequence.relname as name, rolname as grantee
        from pg_depend
        join pg_class as sequence on sequence.oid = objid and sequence.relkind = 'S'
        join pg_class as owner on owner.oid = refobjid
        cross join pg_roles
        where sequence.relnamespace = 'public'::regnamespace
          and owner.relnamespace = 'public'::regnamespace
          and obj_description(owner.oid, 'pg_class') like 'ml_pipeline: %'
          and rolname in ('anon', 'authenticated')
    loop
        execute format('revoke all on sequence %I from %I', found.name, found.grantee);
    end loop;
end
$$;

insert into ml_pipeline_schema_version (version, name) values (35, 'sequences')
on conflict (version) do nothing;
