-- Each item came with a count of the whole store that nothing shows; how far one is in a queue is queue_progress.
create or replace function public.label_view(p_chat_id uuid) returns jsonb
language sql stable set search_path = '' as $$ select public.item_view(p_chat_id, null) $$;
create or replace function public.pair_view(p_chat_id uuid, p_other_id uuid) returns jsonb
language sql stable set search_path = '' as $$ select public.item_view(p_chat_id, p_other_id) $$;
create or replace function public.claim(p_queue_id uuid, p_count integer) returns jsonb
language plpgsql volatile set search_path = '' as $$
declare claimed jsonb;
begin
  claimed := private.claim(p_queue_id, p_count);
  if claimed ? 'failed' then return claimed; end if;
  return jsonb_build_object('views', (
    select coalesce(jsonb_agg(public.item_view((i ->> 0)::uuid, (i ->> 1)::uuid) order by n), '[]')
    from jsonb_array_elements(claimed -> 'items') with ordinality as t (i, n)));
end $$;

-- Nobody asks any more: public.my_progress, next_chat, previous_chat and export_steps. They stay because the grants of
-- 20261122000400 name them, and grants may be said again at any time.

-- How things stand is asked every few seconds; it stands in the last entry alone.
create function public.last_model_event(p_kind text) returns jsonb
language plpgsql stable security definer set search_path = '' as $$
begin
  perform private.require_role('analyst', 'engineer', 'admin');
  return (select jsonb_build_array(m.number, private.utc(m.at), m.who, m.act, m.checkpoint_id, m.reason, m.state, m.detail)
          from public.model_log m where m.kind = p_kind order by m.number desc limit 1);
end $$;
revoke all on function public.last_model_event(text) from public, anon, authenticated, service_role;
grant execute on function public.last_model_event(text) to authenticated, service_role;

-- A dispute is over when each of its places is decided, not the first of them.
create or replace function public.disputes(p_limit integer) returns jsonb
language plpgsql stable security definer set search_path = '' set statement_timeout = '1min' as $$
begin
  perform private.require_role('analyst', 'engineer', 'admin');
  return (
  with scored as (
    select chat_id, max(spread) as spread, max(n) as raters, count(*) filter (
      where spread >= 2 and not exists (select 1 from public.decisions d where d.chat_id = by_place.chat_id
                                        and d.step_id is not distinct from by_place.step_id and d.kind = 'score')) as open
    from (
      select f.chat_id, f.step_id, max(f.feedback_score) - min(f.feedback_score) as spread, count(*) as n
      from public.chat_feedback f group by f.chat_id, f.step_id) by_place
    group by chat_id
  ),
  judged as ( -- a person's first error: what they marked, else the first step they found bad, else none (0)
    select f.chat_id, f.user_id, coalesce(
      (select s.step_order from public.chat_marks m join public.reasoning_steps s on s.id = m.first_error
       where m.user_id = f.user_id and m.chat_id = f.chat_id),
      min(s.step_order) filter (where f.feedback_score <= 2), 0) as at
    from (select chat_id, user_id, step_id, feedback_score from public.chat_feedback where step_id is not null
          union all
          select chat_id, user_id, first_error, null from public.chat_marks where first_error is not null) f
    join public.reasoning_steps s on s.id = f.step_id
    group by f.chat_id, f.user_id
  ),
  stops as (
    select chat_id, count(distinct at) as stops, count(*) as raters,
           (count(distinct at) > 1 and not exists (select 1 from public.decisions d
                                                   where d.chat_id = judged.chat_id and d.kind = 'first_error'))::int as open
    from judged group by chat_id
  ),
  chosen as (
    select chat_id, other_id, count(distinct verdict) as verdicts, count(*) as raters from public.preferences
    where step_order is null and aspect = '' group by chat_id, other_id having count(distinct verdict) > 1
  ),
  found as (
    select chat_id, null::uuid as other_id, max(raters) as raters, max(spread) as spread, max(stops) as stops, 0 as verdicts,
           sum(open)::int as open
    from (select chat_id, raters, spread, 0 as stops, open from scored
          union all select chat_id, raters, 0, stops, open from stops) both_kinds
    group by chat_id having max(spread) >= 2 or max(stops) > 1
    union all
    select chat_id, other_id, raters, 0, 0, verdicts, (not exists (
      select 1 from public.decisions d
      where d.chat_id = chosen.chat_id and d.other_id = chosen.other_id and d.kind = 'preference'))::int
    from chosen
  ),
  listed as (
    select f.*, c.query, (select count(*) from public.decisions d
                          where d.chat_id = f.chat_id and d.other_id is not distinct from f.other_id) as decided
    from found f join public.chats c on c.id = f.chat_id
  )
  select coalesce(jsonb_agg(jsonb_build_array(l.chat_id, l.other_id, l.query, l.raters, l.spread, l.stops, l.verdicts, l.decided, l.open)
                            order by l.place), '[]')
  from (select l.*, row_number() over (order by open = 0, verdicts desc, stops > 1 desc, spread desc, raters desc, chat_id,
                                       other_id) as place
        from listed l order by place limit p_limit) l);
end $$;
