-- The buckets for artifacts: private, and without any policy. Who needs the bytes has the service
-- key, which passes row level security; nobody else gets near a file that a server will load.

do $$
declare
    open_policy record;
begin
    if to_regclass('storage.buckets') is null then
        raise notice 'There is no schema storage here: no buckets were made.';
        return;
    end if;

    insert into storage.buckets (id, name, public)
    values ('ml-models', 'ml-models', false), ('model-artifacts', 'model-artifacts', false)
    on conflict (id) do update set public = false;

    if to_regclass('storage.objects') is null then
        return;
    end if;

    -- This policy was handed around without a role, which means everyone: whoever held the public
    -- key could overwrite the model that a server then loads. The service role never needed it.
    if exists (
        select from pg_policies
        where schemaname = 'storage' and tablename = 'objects'
          and policyname = 'Service role full access' and 'service_role' <> all (roles)
    ) then
        begin
            drop policy "Service role full access" on storage.objects;
        exception when insufficient_privilege then
            raise warning 'Remove the policy "Service role full access" on storage.objects: %',
                'it lets everyone overwrite models, and only its owner may drop it.';
        end;
    end if;

    -- A policy that does not say `bucket_id = …` holds in our buckets as well.
    for open_policy in
        select policyname, roles
        from pg_policies
        where schemaname = 'storage' and tablename = 'objects' and permissive = 'PERMISSIVE'
          and roles && array['public', 'anon', 'authenticated']::name[]
          and (coalesce(qual, '') || coalesce(with_check, '') ~ '(ml-models|model-artifacts)'
               or coalesce(qual, with_check, '') !~ 'bucket_id = '
               or coalesce(with_check, qual, '') !~ 'bucket_id = ')
    loop
        raise warning 'The policy "%" may open a bucket of models to %; narrow or remove it.',
            open_policy.policyname, open_policy.roles;
    end loop;
end
$$;

insert into ml_pipeline_schema_version (version, name) values (11, 'storage')
on conflict (version) do nothing;
