-- Who may do what. The service role does everything, past row level security; anonymous callers
-- nothing; signed-in users read runs, ask for runs, and read and cancel their own requests.
--
-- Row level security is not forced on the owner: the check on open requests runs with the owner's
-- rights and must see every row, also where the owner is no role that bypasses it.

do $$
declare
    ours constant text[] := array[
        'ml_pipeline_schema_version', 'ml_pipeline_limits', 'evaluation_log',
        'model_retraining_runs', 'model_retraining_requests', 'model_metadata',
        'model_promotion_events', 'prediction_accuracy_daily', 'prediction_decay_events',
        'system_events', 'learning_events', 'learning_stats', 'ml_data', 'ml_pipeline_leases'
    ];
    found record;
begin
    perform ml_pipeline_lock(variadic ours);
    -- Policies add up, so one from before would open what the rest closes.
    for found in
        select tablename, policyname from pg_policies
        where schemaname = 'public' and tablename = any (ours)
    loop
        execute format('drop policy %I on %I', found.policyname, found.tablename);
    end loop;
    for found in
        select sequence.relname as name, rolname as grantee
        from pg_depend
        join pg_class as sequence on sequence.oid = objid and sequence.relkind = 'S'
        join pg_class as owner on owner.oid = refobjid and owner.relname = any (ours)
        cross join pg_roles
        where sequence.relnamespace = 'public'::regnamespace
          and owner.relnamespace = 'public'::regnamespace
          and rolname in ('anon', 'authenticated')
    loop
        execute format('revoke all on sequence %I from %I', found.name, found.grantee);
    end loop;
end
$$;

do $$
begin
    if not exists (select from pg_roles where rolname = 'authenticated') then
        raise notice 'There is no role authenticated here: nobody but the owner has access.';
        return;
    end if;

    grant select on model_retraining_runs, model_retraining_requests to authenticated;
    grant insert (id, model_name, requested_by, reason, priority, status)
        on model_retraining_requests to authenticated;
    grant update (status) on model_retraining_requests to authenticated;
    grant execute on function ml_pipeline_caller() to authenticated;
    grant execute on function submit_retraining_request(jsonb) to authenticated;
    grant execute on function cancel_retraining_request(uuid, timestamptz) to authenticated;
    grant execute on function ml_pipeline_differences(jsonb, jsonb, text[]) to authenticated;

    create policy "signed-in users read runs" on model_retraining_runs
        for select to authenticated using (true);

    create policy "users read their own requests" on model_retraining_requests
        for select to authenticated using (requested_by = (select ml_pipeline_caller()));

    create policy "users ask for themselves" on model_retraining_requests
        for insert to authenticated with check (
            requested_by = (select ml_pipeline_caller())
            and status = 'pending' and attempts = 0
            and num_nonnulls(
                retraining_run_id, claimed_at, lease_until, processed_at, error_message
            ) = 0
        );

    create policy "users cancel their own pending requests" on model_retraining_requests
        for update to authenticated
        using (requested_by = (select ml_pipeline_caller()) and status = 'pending')
        with check (requested_by = (select ml_pipeline_caller()) and status = 'cancelled');
end
$$;

insert into ml_pipeline_schema_version (version, name) values (10, 'access')
on conflict (version) do nothing;

notify pgrst, 'reload schema';
