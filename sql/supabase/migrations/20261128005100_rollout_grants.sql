-- Privileges of roll-outs. May be run again at any time.
revoke all on public.model_log, public.served_chats from public, anon, authenticated, service_role;
grant select on public.model_log to authenticated, service_role;
grant select, insert on public.served_chats to service_role;
revoke all on function private.model_log_stays(), private.rollout_bucket(text, text) from public, anon, authenticated, service_role;
revoke all on function public.list_model_events(text),
  public.add_model_event(text, integer, timestamptz, text, text, text, text, text, text),
  public.list_served(integer, text, text), public.assignment(text, uuid)
  from public, anon, authenticated, service_role;
grant execute on function public.list_model_events(text),
  public.add_model_event(text, integer, timestamptz, text, text, text, text, text, text),
  public.list_served(integer, text, text), public.assignment(text, uuid)
  to authenticated, service_role;
