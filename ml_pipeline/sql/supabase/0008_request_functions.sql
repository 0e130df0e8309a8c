-- The queue. A request is claimable when it is pending, or when its lease has run out. All
-- functions but `submit` and `cancel` are the service's alone.

-- Add a pending request and return the row; the same request again returns what became of it.
-- MLP04 for a known id with other content and for a request that is not fresh.
--
-- A signed-in user gives `reason` and `priority`, and `id` and `model_name` where needed. Who
-- asks, when, and that the request is pending, is not theirs to say; MLP06 when too many are open.
create or replace function submit_retraining_request(p_request jsonb) returns jsonb
language plpgsql
set search_path = pg_catalog, public, pg_temp
set timezone = 'UTC'
as $$
declare
    given model_retraining_requests :=
        jsonb_populate_record(null::model_retraining_requests, p_request);
    known model_retraining_requests;
    asked text[] := array['model_name', 'priority', 'reason', 'requested_by', 'created_at'];
    differing text;
begin
    given.id := coalesce(given.id, gen_random_uuid());
    given.model_name := coalesce(given.model_name, 'default');
    given.priority := coalesce(given.priority, 'normal');
    given.reason := coalesce(given.reason, '');
    if current_user in ('anon', 'authenticated') then
        given.requested_by := ml_pipeline_caller();
        asked := array['model_name', 'priority', 'reason', 'requested_by'];
    else
        given.created_at := coalesce(given.created_at, now());
        if coalesce(given.status, 'pending') <> 'pending' or coalesce(given.attempts, 0) <> 0
            or num_nonnulls(
                given.retraining_run_id, given.claimed_at, given.lease_until, given.processed_at,
                given.error_message
            ) > 0
        then
            raise exception using errcode = 'MLP04',
                message = format(
                    'Request %s is not fresh; it starts pending and unclaimed.', given.id
                );
        end if;
    end if;

    select * into known from model_retraining_requests where id = given.id;
    if not found then
        if current_user in ('anon', 'authenticated') then
            insert into model_retraining_requests as request
                (id, model_name, priority, reason, requested_by, status)
            values (
                given.id, given.model_name, given.priority, given.reason, given.requested_by,
                'pending'
            )
            on conflict (id) do nothing
            returning request.* into known;
        else
            insert into model_retraining_requests as request
                (id, model_name, priority, reason, requested_by, status, created_at)
            values (
                given.id, given.model_name, given.priority, given.reason, given.requested_by,
                'pending', given.created_at
            )
            on conflict (id) do nothing
            returning request.* into known;
        end if;
        if found then
            return to_jsonb(known);
        end if;
        select * into known from model_retraining_requests where id = given.id;
        if not found then
            raise exception using errcode = 'MLP04',
                message = format('Request %s stands there already.', given.id);
        end if;
    end if;
    differing := ml_pipeline_differences(to_jsonb(known), to_jsonb(given), asked);
    if differing is not null then
        raise exception using errcode = 'MLP04',
            message = format('Request %s stands there with another %s.', known.id, differing);
    end if;
    return to_jsonb(known);
end
$$;

-- Cancel a pending request and return the row; one that is cancelled stays as it is. MLP02 when
-- it is no longer pending, MLP03 when there is none, or none that the user may see.
create or replace function cancel_retraining_request(
    p_request_id uuid, p_now timestamptz default now()
) returns jsonb
language plpgsql
set search_path = pg_catalog, public, pg_temp
set timezone = 'UTC'
as $$
declare
    known model_retraining_requests;
begin
    -- Users may change nothing but the status, and the clock is not theirs to set.
    if current_user in ('anon', 'authenticated') then
        update model_retraining_requests set status = 'cancelled'
        where id = p_request_id and status = 'pending'
        returning * into known;
    else
        update model_retraining_requests
        set status = 'cancelled', processed_at = p_now, error_message = null
        where id = p_request_id and status = 'pending'
        returning * into known;
    end if;
    if found then
        return to_jsonb(known);
    end if;
    select * into known from model_retraining_requests where id = p_request_id;
    if not found then
        raise exception using errcode = 'MLP03',
            message = format('There is no %s in model_retraining_requests.', p_request_id);
    end if;
    if known.status <> 'cancelled' then
        raise exception using errcode = 'MLP02',
            message = format('Request %s is %s, no longer pending.', known.id, known.status);
    end if;
    return to_jsonb(known);
end
$$;

-- Take the next claimable request (high, normal, low; then oldest), or the one that is named, and
-- return its row; null when there is none. Asking again for one that the run holds changes
-- nothing. MLP03 for an unknown id.
create or replace function claim_retraining_request(
    p_model_name text, p_run_id uuid, p_now timestamptz, p_lease_until timestamptz,
    p_request_id uuid default null
) returns jsonb
language plpgsql
set search_path = pg_catalog, public, pg_temp
set timezone = 'UTC'
as $$
declare
    known model_retraining_requests;
begin
    if p_request_id is null then
        select * into known
        from model_retraining_requests
        where model_name = p_model_name and status in ('pending', 'processing')
          and (status = 'pending' or lease_until <= p_now)
        order by priority_rank, created_at, id
        limit 1
        for update skip locked;
        if not found then
            return null;
        end if;
    else
        select * into known from model_retraining_requests where id = p_request_id for update;
        if not found then
            raise exception using errcode = 'MLP03',
                message = format('There is no %s in model_retraining_requests.', p_request_id);
        end if;
        if known.model_name <> p_model_name or known.status not in ('pending', 'processing') then
            return null;
        end if;
        if known.lease_until > p_now then
            return case when known.retraining_run_id = p_run_id then to_jsonb(known) end;
        end if;
    end if;
    update model_retraining_requests as request
    set status = 'processing', retraining_run_id = p_run_id, claimed_at = p_now,
        lease_until = p_lease_until, attempts = request.attempts + 1
    where request.id = known.id
    returning request.* into known;
    return to_jsonb(known);
end
$$;

-- The locked row of a request that the run holds or closed itself: MLP02, MLP03, MLP04 otherwise.
create or replace function ml_pipeline_held_request(p_request_id uuid, p_run_id uuid)
returns model_retraining_requests
language plpgsql
set search_path = pg_catalog, public, pg_temp
as $$
declare
    known model_retraining_requests;
begin
    select * into known from model_retraining_requests where id = p_request_id for update;
    if not found then
        raise exception using errcode = 'MLP03',
            message = format('There is no %s in model_retraining_requests.', p_request_id);
    end if;
    if known.retraining_run_id is distinct from p_run_id then
        if known.status in ('completed', 'failed', 'cancelled') then
            raise exception using errcode = 'MLP02',
                message = format(
                    'Request %s is %s, by run %s.', known.id, known.status, known.retraining_run_id
                );
        end if;
        raise exception using errcode = 'MLP04',
            message = format(
                'Run %s does not hold request %s (%s).', p_run_id, known.id, known.status
            );
    end if;
    return known;
end
$$;

create or replace function ml_pipeline_close_request(
    p_request_id uuid, p_run_id uuid, p_now timestamptz, p_status text, p_reason text
) returns jsonb
language plpgsql
set search_path = pg_catalog, public, pg_temp
set timezone = 'UTC'
as $$
declare
    known model_retraining_requests := ml_pipeline_held_request(p_request_id, p_run_id);
begin
    if known.status = p_status and (p_status = 'completed' or known.error_message = p_reason) then
        return to_jsonb(known);
    end if;
    if known.status in ('completed', 'failed', 'cancelled') then
        raise exception using errcode = 'MLP02',
            message = format('Request %s is %s already.', known.id, known.status);
    end if;
    update model_retraining_requests as request
    set status = p_status, processed_at = p_now, lease_until = null, error_message = p_reason
    where request.id = p_request_id
    returning request.* into known;
    return to_jsonb(known);
end
$$;

-- Close a request that the run holds; the same again changes nothing. MLP02, MLP03, MLP04.
create or replace function complete_retraining_request(
    p_request_id uuid, p_run_id uuid, p_now timestamptz
) returns jsonb
language sql
set search_path = pg_catalog, public, pg_temp
as $$
    select ml_pipeline_close_request(p_request_id, p_run_id, p_now, 'completed', null)
$$;

-- Close a request that the run holds as failed, with the reason. MLP02, MLP03, MLP04.
create or replace function fail_retraining_request(
    p_request_id uuid, p_run_id uuid, p_now timestamptz, p_reason text
) returns jsonb
language sql
set search_path = pg_catalog, public, pg_temp
as $$
    select ml_pipeline_close_request(p_request_id, p_run_id, p_now, 'failed', p_reason)
$$;

-- Give a request that the run holds back to the queue; its attempts stay. A pending one stays as
-- it is. MLP02, MLP03, MLP04.
create or replace function release_retraining_request(p_request_id uuid, p_run_id uuid)
returns jsonb
language plpgsql
set search_path = pg_catalog, public, pg_temp
set timezone = 'UTC'
as $$
declare
    known model_retraining_requests;
begin
    select * into known from model_retraining_requests where id = p_request_id for update;
    if known.status in ('completed', 'failed', 'cancelled') then
        raise exception using errcode = 'MLP02',
            message = format('Request %s is %s already.', known.id, known.status);
    end if;
    if known.status = 'pending' then
        return to_jsonb(known);
    end if;
    known := ml_pipeline_held_request(p_request_id, p_run_id);
    update model_retraining_requests as request
    set status = 'pending', retraining_run_id = null, claimed_at = null, lease_until = null
    where request.id = p_request_id
    returning request.* into known;
    return to_jsonb(known);
end
$$;

-- Return requests whose lease has run out to the queue, or fail the worn out ones; return them in
-- the order of service.
create or replace function release_stale_retraining_requests(
    p_model_name text, p_now timestamptz, p_max_attempts integer
) returns jsonb
language plpgsql
set search_path = pg_catalog, public, pg_temp
set timezone = 'UTC'
as $$
declare
    known model_retraining_requests;
    changed jsonb := '[]';
begin
    for known in
        select * from model_retraining_requests
        where model_name = p_model_name and status = 'processing' and lease_until <= p_now
        order by priority_rank, created_at, id
        for update
    loop
        if known.attempts < p_max_attempts then
            update model_retraining_requests as request
            set status = 'pending', retraining_run_id = null, claimed_at = null, lease_until = null
            where request.id = known.id
            returning request.* into known;
        else
            update model_retraining_requests as request
            set status = 'failed', processed_at = p_now, lease_until = null,
                error_message = format(
                    'given up after %s attempts: run %s did not finish it',
                    request.attempts, request.retraining_run_id
                )
            where request.id = known.id
            returning request.* into known;
        end if;
        changed := changed || to_jsonb(known);
    end loop;
    return changed;
end
$$;

-- Requests in the order in which they are served, as one array; null is every status.
create or replace function list_retraining_requests(p_model_name text, p_status text default null)
returns jsonb
language sql stable
set search_path = pg_catalog, public, pg_temp
set timezone = 'UTC'
as $$
    select coalesce(jsonb_agg(to_jsonb(request)), '[]')
    from (
        select * from model_retraining_requests
        where model_name = p_model_name and (p_status is null or status = p_status)
        order by priority_rank, created_at, id
    ) as request
$$;

select ml_pipeline_lock(
    'submit_retraining_request', 'cancel_retraining_request', 'claim_retraining_request',
    'ml_pipeline_held_request', 'ml_pipeline_close_request', 'complete_retraining_request',
    'fail_retraining_request', 'release_retraining_request', 'release_stale_retraining_requests',
    'list_retraining_requests'
);

insert into ml_pipeline_schema_version (version, name) values (8, 'request_functions')
on conflict (version) do nothing;

notify pgrst, 'reload schema';
