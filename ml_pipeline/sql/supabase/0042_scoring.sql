-- The champion's scoring file as a program, and what runs it.

-- Run a program for rows of numbers, one row after the other in `p_rows`, NaN for a missing value;
-- what each answers, one after the other. `docs/scoring-format.md` describes the program, which
-- `registry/in_database` writes. A row that the model cannot take answers NaN.
--
-- PostgreSQL refuses results that underflow or overflow, so what is too small to matter is 0 here,
-- and exponents end at -600. NaN is the largest number to it: `greatest` keeps it, `least` does not.
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
    memory double precision[] := array_fill(0.0::double precision, array[p_places[2]]);
    found double precision[] := array_fill(
        'NaN'::double precision, array[cardinality(p_rows) / p_places[1] * p_places[4]]
    );
    at integer; -- the instruction
    op integer;
    n integer;
    m integer;
    source integer;
    out integer;
    first integer;
    w integer;
    node integer;
    low integer;
    high integer;
    base integer;
    x double precision;
    y double precision;
    total double precision;
begin
    for line in 0 .. cardinality(p_rows) / width - 1 loop
        for i in 1 .. width loop
            memory[i] := p_rows[line * width + i];
        end loop;
        at := 5;
        while at <= ending loop
            op := p_places[at];
            if op = 1 then -- DOT source wide rows out first
                source := p_places[at + 1];
                n := p_places[at + 2];
                out := p_places[at + 4];
                w := p_places[at + 5];
                first := w + n * p_places[at + 3];
                for i in 0 .. p_places[at + 3] - 1 loop
                    total := p_numbers[first + i];
                    for j in source .. source + n - 1 by 8 loop
                        total := total + p_numbers[w] * memory[j]
                            + p_numbers[w + 1] * memory[j + 1] + p_numbers[w + 2] * memory[j + 2]
                            + p_numbers[w + 3] * memory[j + 3] + p_numbers[w + 4] * memory[j + 4]
                            + p_numbers[w + 5] * memory[j + 5] + p_numbers[w + 6] * memory[j + 6]
                            + p_numbers[w + 7] * memory[j + 7];
                        w := w + 8;
                    end loop;
                    memory[out + i] := total;
                end loop;
                at := at + 6;

            elsif op = 2 then -- SHARE source scores rest out weight
                source := p_places[at + 1];
                n := p_places[at + 2];
                out := p_places[at + 4];
                y := memory[source];
                for i in source + 1 .. source + n - 1 loop
                    y := greatest(y, memory[i]);
                end loop;
                total := 0;
                if p_places[at + 3] > 0 then
                    y := greatest(y, 0);
                    total := exp(greatest(-y, -600));
                    x := total;
                end if;
                for i in source .. source + n - 1 loop
                    memory[i] := exp(greatest(memory[i] - y, -600));
                    total := total + memory[i];
                end loop;
                y := p_numbers[p_places[at + 5]] / total;
                for i in 0 .. n - 1 loop
                    memory[out + i] := memory[out + i] + y * memory[source + i];
                end loop;
                if p_places[at + 3] > 0 then
                    memory[out + n] := memory[out + n] + y * x;
                end if;
                at := at + 6;

            elsif op = 3 then -- SELECT out count sources
                out := p_places[at + 1];
                n := p_places[at + 2];
                for i in 0 .. n - 1 loop
                    memory[out + i] := memory[p_places[at + 3 + i]];
                end loop;
                at := at + 3 + n;

            elsif op = 4 then -- FLUSH start count
                for i in p_places[at + 1] .. p_places[at + 1] + p_places[at + 2] - 1 loop
                    if abs(memory[i]) < 1e-200 then
                        memory[i] := 0;
                    end if;
                end loop;
                at := at + 3;

            elsif op = 5 then -- IMPUTE start count first
                out := p_places[at + 1];
                for i in 0 .. p_places[at + 2] - 1 loop
                    if memory[out + i] = nan then
                        memory[out + i] := p_numbers[p_places[at + 3] + i];
                    end if;
                end loop;
                at := at + 4;

            elsif op = 6 then -- SCALE start count first
                out := p_places[at + 1];
                n := p_places[at + 2];
                first := p_places[at + 3];
                for i in 0 .. n - 1 loop
                    x := memory[out + i] - p_numbers[first + i];
                    if abs(x) < 1e-150 then
                        memory[out + i] := 0;
                    else
                        memory[out + i] := x / p_numbers[first + n + i];
                    end if;
                end loop;
                at := at + 4;

            elsif op = 7 then -- CLIP start count first
                y := p_numbers[p_places[at + 3]];
                for i in p_places[at + 1] .. p_places[at + 1] + p_places[at + 2] - 1 loop
                    if memory[i] <> nan then
                        memory[i] := least(greatest(memory[i], -y), y);
                    end if;
                end loop;
                at := at + 4;

            elsif op = 8 then -- LINK link start scores
                source := p_places[at + 2];
                n := p_places[at + 3];
                if p_places[at + 1] = 2 then
                    x := memory[source];
                    if x >= 0 then
                        y := 1 / (1 + exp(greatest(-x, -600)));
                    else
                        y := exp(greatest(x, -600));
                        y := y / (1 + y);
                    end if;
                    memory[source] := 1 - y;
                    memory[source + 1] := y;
                else
                    y := memory[source];
                    for i in source + 1 .. source + n - 1 loop
                        y := greatest(y, memory[i]);
                    end loop;
                    total := 0;
                    for i in source .. source + n - 1 loop
                        if p_places[at + 1] = 1 or y < -500 then
                            -- So small, a sigmoid is its exponential.
                            x := case when y < -745.13 and p_places[at + 1] = 3 then 1
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
                at := at + 4;

            elsif op = 9 then -- ORDER start columns out count fill, and each column's class
                out := p_places[at + 3];
                n := p_places[at + 4];
                for i in out .. out + n - 1 loop
                    memory[i] := p_numbers[p_places[at + 5]];
                end loop;
                for i in 0 .. p_places[at + 2] - 1 loop
                    memory[out + p_places[at + 6 + i]] := memory[p_places[at + 1] + i];
                end loop;
                if p_places[at + 2] < n then
                    total := 0;
                    for i in out .. out + n - 1 loop
                        total := total + memory[i];
                    end loop;
                    for i in out .. out + n - 1 loop
                        memory[i] := memory[i] / total;
                    end loop;
                end if;
                at := at + 6 + p_places[at + 2];

            elsif op = 10 then -- ADD start count out weight
                out := p_places[at + 3];
                y := p_numbers[p_places[at + 4]];
                for i in 0 .. p_places[at + 2] - 1 loop
                    memory[out + i] := memory[out + i] + y * memory[p_places[at + 1] + i];
                end loop;
                at := at + 5;

            elsif op = 11 then -- ODDS source classes out former
                source := p_places[at + 1];
                n := p_places[at + 2];
                out := p_places[at + 3];
                total := 0;
                for i in 0 .. n - 1 loop
                    y := memory[source + i];
                    if y <> nan then
                        y := ln(least(greatest(y, 0.001), 1));
                    end if;
                    total := total + y;
                    if i < n - 1 or p_places[at + 4] = 1 then
                        memory[out + i] := y;
                    end if;
                end loop;
                if p_places[at + 4] = 1 then
                    y := total / n;
                else
                    n := n - 1;
                end if;
                for i in out .. out + n - 1 loop
                    x := memory[i] - y;
                    memory[i] := case when abs(x) < tiny then 0 else x end;
                end loop;
                at := at + 5;

            elsif op = 12 then -- NUMBERS start count out first
                source := p_places[at + 1];
                n := p_places[at + 2];
                out := p_places[at + 3];
                first := p_places[at + 4];
                for i in 0 .. n - 1 loop
                    x := memory[source + i] - p_numbers[first + i];
                    if x = nan or abs(x) < 1e-150 then
                        memory[out + i] := 0;
                    else
                        x := least(greatest(x / p_numbers[first + n + i], -8), 8);
                        memory[out + i] := case when abs(x) < tiny then 0 else x end;
                    end if;
                end loop;
                at := at + 5;

            elsif op = 13 then -- BOUND start count
                for i in p_places[at + 1] .. p_places[at + 1] + p_places[at + 2] - 1 loop
                    x := memory[i];
                    memory[i] := case when x = nan or abs(x) < tiny then 0
                                 else least(greatest(x, -8), 8) end;
                end loop;
                at := at + 3;

            elsif op = 14 then -- PAIRS out count, and two places each
                out := p_places[at + 1];
                n := p_places[at + 2];
                w := at + 3;
                for i in out .. out + n - 1 loop
                    x := memory[p_places[w]] * memory[p_places[w + 1]];
                    memory[i] := case when abs(x) < tiny then 0
                                 else least(greatest(x, -8), 8) end;
                    w := w + 2;
                end loop;
                at := w;

            elsif op = 15 then -- COSINES start count
                for i in p_places[at + 1] .. p_places[at + 1] + p_places[at + 2] - 1 loop
                    memory[i] := 1.4142135623730951 * cos(memory[i]);
                end loop;
                at := at + 3;

            elsif op = 16 then -- SET place first
                memory[p_places[at + 1]] := p_numbers[p_places[at + 2]];
                at := at + 3;

            elsif op = 17 then
                -- TREES start width twice out scores first single trees leaves thresholds nodes,
                -- and of each tree its root and its column, and of each node three places
                source := p_places[at + 1];
                n := p_places[at + 2];
                base := p_places[at + 3];
                out := p_places[at + 4];
                m := p_places[at + 9];
                first := p_places[at + 6];
                total := p_numbers[first + p_places[at + 5]]; -- the divisor
                y := 0;
                for i in 0 .. n - 1 loop
                    x := memory[source + i];
                    if p_places[at + 7] = 1 and x <> nan then
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
                for i in 0 .. p_places[at + 5] - 1 loop
                    memory[out + i] := p_numbers[first + i] + y;
                end loop;
                first := first + p_places[at + 5]; -- before the first threshold
                high := first + p_places[at + 10]; -- before the first leaf
                low := at + 11; -- before the first root
                op := low + p_places[at + 8]; -- before the first column
                w := op + p_places[at + 8] - 2; -- three before the first node
                if y <> nan then
                    for i in 1 .. p_places[at + 8] loop
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
                for i in out .. out + p_places[at + 5] - 1 loop
                    memory[i] := memory[i] / total;
                end loop;
                at := at + 12 + 2 * p_places[at + 8] + p_places[at + 11];

            elsif op = 18 then -- VOTE out count members shares first, and each member's place
                out := p_places[at + 1];
                n := p_places[at + 2];
                m := p_places[at + 3];
                low := p_places[at + 4];
                total := 0;
                for i in 0 .. m - 1 loop
                    y := 0;
                    for j in p_places[at + 6 + i] .. p_places[at + 6 + i] + n - 1 loop
                        y := y + memory[j];
                    end loop;
                    -- A member without an answer leaves its weight to the others.
                    if y = nan then
                        memory[low + i] := nan;
                    else
                        memory[low + i] := p_numbers[p_places[at + 5] + i];
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
                                + memory[low + i] * memory[p_places[at + 6 + i] + j];
                        end loop;
                    end if;
                end loop;
                at := at + 6 + m;

            elsif op = 19 or op = 20 then
                -- ONE_HOT place out levels first missing others
                -- MEANS place out levels first width
                out := p_places[at + 2];
                n := p_places[at + 3];
                first := p_places[at + 4];
                x := memory[p_places[at + 1]];
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
                if op = 19 then
                    for i in out .. out + n + p_places[at + 5] + p_places[at + 6] - 1 loop
                        memory[i] := 0;
                    end loop;
                    if low >= 0 then
                        memory[out + low] := 1;
                    elsif x = nan and p_places[at + 5] = 1 then
                        memory[out + n] := 1;
                    elsif p_places[at + 6] = 1 then
                        memory[out + n + p_places[at + 5]] := 1;
                    end if;
                    at := at + 7;
                else
                    m := p_places[at + 5];
                    if x = nan then
                        low := n; -- what stands for a missing level comes last
                    end if;
                    for i in 0 .. m - 1 loop
                        memory[out + i] := case
                            when low < 0 then 0 else p_numbers[first + n + low * m + i] end;
                    end loop;
                    at := at + 6;
                end if;

            elsif op = 21 then -- MOMENTS out count, and each place
                out := p_places[at + 1];
                n := p_places[at + 2];
                for i in 0 .. n - 1 loop
                    x := memory[p_places[at + 3 + i]];
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
                at := at + 3 + n;

            else
                raise exception using errcode = 'MLP07',
                    message = format('The program of the model has no instruction %s.', op);
            end if;
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
