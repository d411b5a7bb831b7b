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
