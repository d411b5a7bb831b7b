-- Chats that a queue may hand out, as it hands them out, for whoever scores them ahead.
create function public.chats_of_queue(p_queue_id uuid, p_limit integer) returns jsonb
language plpgsql stable security definer set search_path = '' as $$
begin
  perform private.require_role('engineer', 'admin');
  return (
    select coalesce(jsonb_agg(private.chat_line(c) order by c.created_at, c.id), '[]')
    from (select * from public.chats
          where id in (select i.chat_id from private.items(p_queue_id) i union select i.other_id from private.items(p_queue_id) i)
          order by created_at, id limit p_limit) c);
end $$;
revoke all on function public.chats_of_queue(uuid, integer) from public, anon, authenticated, service_role;
grant execute on function public.chats_of_queue(uuid, integer) to authenticated, service_role;
