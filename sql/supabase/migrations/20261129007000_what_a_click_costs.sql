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
