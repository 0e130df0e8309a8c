-- The champion's scoring file as a program, and what runs it.

-- Run a program for rows of numbers, one row after the other in `p_rows`, NaN for a missing value;
-- what each answers, one after the other. `docs/scoring-format.md` describes the program, which
-- `registry/in_database` writes. A row that the model cannot take answers NaN.
--
-- PostgreSQL refuses results that underflow or overflow, so what is too small to matter is 0 here,
-- and exponents end at -600. NaN is the largest number to it: `greatest` keeps it, `least` does not.
--
-- PL/pgSQL prepares each expression once per transaction, which takes longer than to evaluate it
-- some ten times. So a single answer is fast where few different expressions run: all instructions
-- share how their operands are read, and the numbers are gone through by few of them.
create or replace function ml_pipeline_score(
    p_places integer[], p_numbers double precision[], p_rows double precision[]
) returns double precision[]
language plpgsql immutable parallel safe
set search_path = pg_catalog, public, pg_temp
as $$
declare
    nan constant double precision := 'NaN'::double precision;
    tiny constant double precision := 1e-100::double precision;
    width constant integer := p_places[1];
    answer constant integer := p_places[3];
    answers constant integer := p_places[4];
    ending constant integer := cardinality(p_places);
    memory double precision[];
    found double precision[] := array_fill(
        'NaN'::double precision, array[cardinality(p_rows) / p_places[1] * p_places[4]]
    );
    at integer; -- the instruction
    op integer;
    source integer;
    n integer;
    out integer;
    first integer;
    m integer;
    w integer;
    node integer;
    low integer;
    high integer;
    base integer;
    x double precision;
    y double precision;
    total double precision;
    rest double precision;
    x1 double precision;
    x2 double precision;
    x3 double precision;
    x4 double precision;
    x5 double precision;
    x6 double precision;
    x7 double precision;
    x8 double precision;
    x9 double precision;
    x10 double precision;
    x11 double precision;
    x12 double precision;
begin
    for line in 0 .. cardinality(p_rows) / width - 1 loop
        memory := array_fill(0.0::double precision, array[p_places[2]]);
        for i in 1 .. width loop
            memory[i] := p_rows[line * width + i];
        end loop;
        at := 5;
        while at <= ending loop
            op := p_places[at];
            source := p_places[at + 2];
            n := p_places[at + 3];
            out := p_places[at + 4];
            first := p_places[at + 5];
            if op = 1 then -- DOT source wide out first, rows
                m := p_places[at + 6];
                for i in 0 .. m - 1 loop
                    memory[out + i] := p_numbers[first + i];
                end loop;
                first := first + m;
                for j in source .. source + n - 1 by 12 loop
                    x1 := memory[j];
                    x2 := memory[j + 1];
                    x3 := memory[j + 2];
                    x4 := memory[j + 3];
                    x5 := memory[j + 4];
                    x6 := memory[j + 5];
                    x7 := memory[j + 6];
                    x8 := memory[j + 7];
                    x9 := memory[j + 8];
                    x10 := memory[j + 9];
                    x11 := memory[j + 10];
                    x12 := memory[j + 11];
                    for w in first .. first + 12 * m - 1 by 12 loop
                        memory[out + (w - first) / 12] := memory[out + (w - first) / 12]
                            + p_numbers[w] * x1 + p_numbers[w + 1] * x2
                            + p_numbers[w + 2] * x3 + p_numbers[w + 3] * x4
                            + p_numbers[w + 4] * x5 + p_numbers[w + 5] * x6
                            + p_numbers[w + 6] * x7 + p_numbers[w + 7] * x8
                            + p_numbers[w + 8] * x9 + p_numbers[w + 9] * x10
                            + p_numbers[w + 10] * x11 + p_numbers[w + 11] * x12;
                    end loop;
                    first := first + 12 * m;
                end loop;

            elsif op = 2 then -- SHARES source scores out first, heads rest
                m := p_places[at + 7];
                for head in 0 .. p_places[at + 6] - 1 loop
                    y := case when m = 1 then 0 else memory[source] end;
                    for i in source .. source + n - 1 loop
                        y := greatest(y, memory[i]);
                    end loop;
                    rest := m * exp(greatest(-y, -600));
                    total := rest;
                    for i in source .. source + n - 1 loop
                        memory[i] := exp(greatest(memory[i] - y, -600));
                        total := total + memory[i];
                    end loop;
                    y := p_numbers[first + head] / total;
                    for i in 0 .. n - 1 loop
                        memory[out + i] := memory[out + i] + y * memory[source + i];
                    end loop;
                    if m = 1 then
                        memory[out + n] := memory[out + n] + y * rest;
                    end if;
                    source := source + n;
                end loop;

            elsif op = 3 then -- STANDARDISE source count out first
                y := p_numbers[first + 3 * n];
                for i in 0 .. n - 1 loop
                    x := memory[source + i] - p_numbers[first + n + i];
                    if x = nan then
                        memory[out + i] := p_numbers[first + i];
                    else
                        total := p_numbers[first + 2 * n + i];
                        memory[out + i] := case
                            when abs(x) < tiny * total then 0
                            else least(greatest(x / total, -y), y) end;
                    end if;
                end loop;

            elsif op = 4 then -- ADD source count out first
                y := p_numbers[first];
                for i in 0 .. n - 1 loop
                    memory[out + i] := memory[out + i] + y * memory[source + i];
                end loop;

            elsif op = 5 then -- ODDS source classes out, former
                total := 0;
                for i in 0 .. n - 1 loop
                    y := memory[source + i];
                    if y <> nan then
                        y := ln(least(greatest(y, 0.001), 1));
                    end if;
                    total := total + y;
                    if i < n - 1 or p_places[at + 6] = 1 then
                        memory[out + i] := y;
                    end if;
                end loop;
                if p_places[at + 6] = 1 then
                    y := total / n;
                else
                    n := n - 1;
                end if;
                for i in out .. out + n - 1 loop
                    x := memory[i] - y;
                    memory[i] := case when abs(x) < tiny then 0 else x end;
                end loop;

            elsif op = 6 then -- PAIRS out count, and two places each
                w := at + 6;
                for i in 0 .. n - 1 loop
                    memory[out + i] := least(greatest(
                        memory[p_places[w + 2 * i]] * memory[p_places[w + 2 * i + 1]], -8
                    ), 8);
                end loop;

            elsif op = 7 then -- COSINES source count
                for i in source .. source + n - 1 loop
                    memory[i] := 1.4142135623730951 * cos(memory[i]);
                end loop;

            elsif op = 8 then -- SELECT out count, and each place
                for i in 0 .. n - 1 loop
                    memory[out + i] := memory[p_places[at + 6 + i]];
                end loop;

            elsif op = 9 then -- FLUSH source count
                for i in source .. source + n - 1 loop
                    if abs(memory[i]) < 1e-200 then
                        memory[i] := 0;
                    end if;
                end loop;

            elsif op = 10 then -- IMPUTE source count first
                for i in 0 .. n - 1 loop
                    if memory[source + i] = nan then
                        memory[source + i] := p_numbers[first + i];
                    end if;
                end loop;

            elsif op = 11 then -- SCALE source count first
                for i in 0 .. n - 1 loop
                    x := memory[source + i] - p_numbers[first + i];
                    if abs(x) < 1e-150 then
                        memory[source + i] := 0;
                    else
                        memory[source + i] := x / p_numbers[first + n + i];
                    end if;
                end loop;

            elsif op = 12 then -- CLIP source count first
                y := p_numbers[first];
                for i in source .. source + n - 1 loop
                    if memory[i] <> nan then
                        memory[i] := least(greatest(memory[i], -y), y);
                    end if;
                end loop;

            elsif op = 13 then -- BOUND source count
                for i in source .. source + n - 1 loop
                    x := memory[i];
                    memory[i] := case when x = nan or abs(x) < tiny then 0
                                 else least(greatest(x, -8), 8) end;
                end loop;

            elsif op = 14 then -- LINK source scores, link
                if p_places[at + 6] = 1 then -- a sigmoid
                    x := memory[source];
                    if x >= 0 then
                        y := 1 / (1 + exp(greatest(-x, -600)));
                    else
                        y := exp(greatest(x, -600));
                        y := y / (1 + y);
                    end if;
                    memory[source] := 1 - y;
                    memory[source + 1] := y;
                else -- one versus rest
                    y := memory[source];
                    for i in source + 1 .. source + n - 1 loop
                        y := greatest(y, memory[i]);
                    end loop;
                    total := 0;
                    for i in source .. source + n - 1 loop
                        if y < -500 then
                            -- So small, a sigmoid is its exponential.
                            x := case when y < -745.13 then 1
                                 else exp(greatest(memory[i] - y, -600)) end;
                        elsif memory[i] >= 0 then
                            x := 1 / (1 + exp(greatest(-memory[i], -600)));
                        else
                            x := exp(greatest(memory[i], -600));
                            x := x / (1 + x);
                        end if;
                        memory[i] := x;
                        total := total + x;
                    end loop;
                    for i in source .. source + n - 1 loop
                        memory[i] := memory[i] / total;
                    end loop;
                end if;

            elsif op = 15 then -- ORDER source columns out first, count, and each column's class
                m := p_places[at + 6];
                for i in out .. out + m - 1 loop
                    memory[i] := p_numbers[first];
                end loop;
                for i in 0 .. n - 1 loop
                    memory[out + p_places[at + 7 + i]] := memory[source + i];
                end loop;
                if n < m then
                    total := 0;
                    for i in out .. out + m - 1 loop
                        total := total + memory[i];
                    end loop;
                    for i in out .. out + m - 1 loop
                        memory[i] := memory[i] / total;
                    end loop;
                end if;

            elsif op = 16 then
                -- TREES source width out first, twice scores single trees leaves thresholds, and of
                -- each tree its root and its column, and of each node three places
                base := p_places[at + 6];
                m := p_places[at + 10];
                op := first + p_places[at + 7];
                total := p_numbers[op]; -- the divisor
                y := 0;
                for i in 0 .. n - 1 loop
                    x := memory[source + i];
                    if p_places[at + 8] = 1 and x <> nan then
                        if abs(x) >= 3.4028235677973366e38 then
                            y := nan; -- no single precision holds it
                        elsif abs(x) <= 7.0064923216240854e-46 then
                            x := 0;
                        else
                            x := x::real;
                        end if;
                    end if;
                    memory[base + i] := x;
                    memory[base + n + i] := case when x = nan then '-Infinity' else x end;
                end loop;
                for i in 0 .. p_places[at + 7] - 1 loop
                    memory[out + i] := p_numbers[first + i] + y;
                end loop;
                first := op; -- before the first threshold
                high := first + p_places[at + 11]; -- before the first leaf
                low := at + 11; -- before the first root
                op := low + p_places[at + 9]; -- before the first column
                w := op + p_places[at + 9] - 2; -- three before the first node
                if y <> nan then
                    for i in 1 .. p_places[at + 9] loop
                        node := p_places[low + i];
                        while node > 0 loop
                            if memory[base + p_places[w + 3 * node]] <= p_numbers[first + node] then
                                node := p_places[w + 3 * node + 1];
                            else
                                node := p_places[w + 3 * node + 2];
                            end if;
                        end loop;
                        source := out + p_places[op + i];
                        node := high - (node + 1) * m;
                        for j in 0 .. m - 1 loop
                            memory[source + j] := memory[source + j] + p_numbers[node + 1 + j];
                        end loop;
                    end loop;
                end if;
                for i in out .. out + p_places[at + 7] - 1 loop
                    memory[i] := memory[i] / total;
                end loop;

            elsif op = 17 then -- VOTE out count first, members shares, and each member's place
                m := p_places[at + 6];
                low := p_places[at + 7];
                total := 0;
                for i in 0 .. m - 1 loop
                    y := 0;
                    for j in p_places[at + 8 + i] .. p_places[at + 8 + i] + n - 1 loop
                        y := y + memory[j];
                    end loop;
                    -- A member without an answer leaves its weight to the others.
                    if y = nan then
                        memory[low + i] := nan;
                    else
                        memory[low + i] := p_numbers[first + i];
                        total := total + memory[low + i];
                    end if;
                end loop;
                for i in out .. out + n - 1 loop
                    memory[i] := case when total > 0 then 0 else nan end;
                end loop;
                for i in 0 .. m - 1 loop
                    if memory[low + i] <> nan and total > 0 then
                        memory[low + i] := memory[low + i] / total;
                        for j in 0 .. n - 1 loop
                            memory[out + j] := memory[out + j]
                                + memory[low + i] * memory[p_places[at + 8 + i] + j];
                        end loop;
                    end if;
                end loop;

            elsif op = 18 or op = 19 then
                -- ONE_HOT source levels out first, missing others
                -- MEANS source levels out first, width
                x := memory[source];
                low := 0;
                high := n;
                while low < high loop
                    w := (low + high) / 2;
                    if p_numbers[first + w] < x then
                        low := w + 1;
                    else
                        high := w;
                    end if;
                end loop;
                if low >= n or x = nan or p_numbers[first + low] <> x then
                    low := -1;
                end if;
                m := p_places[at + 6];
                if op = 18 then
                    for i in out .. out + n + m + p_places[at + 7] - 1 loop
                        memory[i] := 0;
                    end loop;
                    if low >= 0 then
                        memory[out + low] := 1;
                    elsif x = nan and m = 1 then
                        memory[out + n] := 1;
                    elsif p_places[at + 7] = 1 then
                        memory[out + n + m] := 1;
                    end if;
                else
                    if x = nan then
                        low := n; -- what stands for a missing level comes last
                    end if;
                    for i in 0 .. m - 1 loop
                        memory[out + i] := case
                            when low < 0 then 0 else p_numbers[first + n + low * m + i] end;
                    end loop;
                end if;

            elsif op = 20 then -- MOMENTS out count, and each place
                for i in 0 .. n - 1 loop
                    x := memory[p_places[at + 6 + i]];
                    if x <> nan then
                        y := floor(x / 86400);
                        total := x - y * 86400;
                        -- The quotient was rounded.
                        if total < 0 then
                            total := total + 86400;
                        elsif total >= 86400 then
                            total := total - 86400;
                        end if;
                        memory[out] := total / 3600;
                        y := y + 3;
                        memory[out + 1] := y - floor(y / 7) * 7;
                        memory[out + 2] := x / 86400;
                    else
                        memory[out] := nan;
                        memory[out + 1] := nan;
                        memory[out + 2] := nan;
                    end if;
                    out := out + 3;
                end loop;

            else
                raise exception using errcode = 'MLP07',
                    message = format('The program of the model has no instruction %s.', op);
            end if;
            at := at + p_places[at + 1];
        end loop;
        for i in 0 .. answers - 1 loop
            found[line * answers + i + 1] := memory[answer + i];
        end loop;
    end loop;
    return found;
end
$$;

select ml_pipeline_lock('ml_pipeline_score');

insert into ml_pipeline_schema_version (version, name) values (42, 'scoring')
on conflict (version) do nothing;

notify pgrst, 'reload schema';
