-- Leases that last as long as their run does, and limits for callers that the trigger on inserts
-- does not know: those with the service key. All functions are the service's alone.

-- Move the leases of all requests that the run holds to `p_lease_until`, never back; return how
-- many it holds.
create or replace function renew_retraining_leases(p_run_id uuid, p_lease_until timestamptz)
returns integer
language sql
set search_path = pg_catalog, public, pg_temp
as $$
    with renewed as (
        update model_retraining_requests
        set lease_until = greatest(lease_until, p_lease_until)
        where retraining_run_id = p_run_id and status = 'processing'
        returning id
    )
    select count(*)::integer from renewed
$$;

-- Add a pending request unless too many are open: MLP06. Everything else is as in
-- `submit_retraining_request`. Requests that name nobody count in the total only.
create or replace function submit_retraining_request_within(
    p_request jsonb, p_per_user integer, p_total integer
) returns jsonb
language plpgsql
set search_path = pg_catalog, public, pg_temp
set timezone = 'UTC'
as $$
declare
    given model_retraining_requests :=
        jsonb_populate_record(null::model_retraining_requests, p_request);
    theirs bigint;
    everyone bigint;
begin
    -- The lock of the trigger: two submits must not both count the rows before the other's.
    perform pg_advisory_xact_lock(hashtextextended('ml_pipeline.open_requests', 0));
    if not exists (select from model_retraining_requests where id = given.id) then
        select count(*) filter (where requested_by = given.requested_by), count(*)
        into theirs, everyone
        from model_retraining_requests
        where status in ('pending', 'processing');
        if theirs >= p_per_user then
            raise exception using errcode = 'MLP06',
                message = format(
                    '%s has %s open requests already; %s are allowed.',
                    given.requested_by, theirs, p_per_user
                );
        end if;
        if everyone >= p_total then
            raise exception using errcode = 'MLP06',
                message = format(
                    '%s requests are open already; %s are allowed.', everyone, p_total
                );
        end if;
    end if;
    return submit_retraining_request(p_request);
end
$$;

select ml_pipeline_lock('renew_retraining_leases', 'submit_retraining_request_within');

insert into ml_pipeline_schema_version (version, name) values (13, 'leases')
on conflict (version) do nothing;

notify pgrst, 'reload schema';
