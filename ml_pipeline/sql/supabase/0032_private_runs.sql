-- What signed-in users read of a run: that it was, what it came to, and its figures.
--
-- The rest quotes the rows that were learned or could not be: `details` has the most confident
-- errors with their texts, `error_message` the end of the trainer's output, `outcome_reason` of a
-- failure or a skip the cause with its values, `triggered_by` who asked. Every account of an app
-- is `authenticated`, anonymous sign-ins too, so those are the service role's alone. A column that
-- is added later is so as well, until it is named here.

do $$
declare
    seen constant text[] := array[
        'id', 'model_name', 'source', 'status', 'outcome', 'started_at', 'heartbeat_at',
        'completed_at', 'created_at', 'updated_at', 'fine_tune_flag', 'dataset_size',
        'training_rows', 'metrics', 'champion_id', 'challenger_id', 'training_digest',
        'holdout_digest', 'config_digest', 'git_sha', 'log_url'
    ];
begin
    if not exists (select from pg_roles where rolname = 'authenticated') then
        return;
    end if;
    revoke select on model_retraining_runs from authenticated;
    -- Tables that were made elsewhere may lack one that nothing depends on.
    execute (
        select format(
            'grant select (%s) on model_retraining_runs to authenticated',
            string_agg(format('%I', attname), ', ')
        )
        from pg_attribute
        where attrelid = 'model_retraining_runs'::regclass and attname = any (seen)
    );
end
$$;

-- The error of a run came into the request that it served, and whoever asked reads their own
-- request. It still stands in the run's row.
update model_retraining_requests
set error_message = format('run %s failed', retraining_run_id)
where requested_by is not null and retraining_run_id is not null and status = 'failed'
  and error_message
      !~ '^(given up after [0-9]+ attempts: )?run [0-9a-f-]{36} (failed|did not finish it)$';

insert into ml_pipeline_schema_version (version, name) values (32, 'private_runs')
on conflict (version) do nothing;

notify pgrst, 'reload schema';
