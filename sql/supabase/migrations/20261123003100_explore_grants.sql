-- Privileges of what exploring uses; beside those of 400 and 2100. May be run again at any time.
revoke all on public.queue_chats from public, anon, authenticated;
grant all on public.queue_chats to service_role;
revoke all on function private.withdrawn() from public, anon, authenticated, service_role;
revoke all on function public.set_queue_chats(uuid, text), public.steps_asked(uuid, text), public.my_consent(),
  public.set_consent(boolean), public.export_steps_by_chat(uuid, timestamptz, uuid, integer, bigint)
  from public, anon, authenticated, service_role;
grant execute on function public.set_queue_chats(uuid, text), public.steps_asked(uuid, text), public.my_consent(),
  public.set_consent(boolean), public.export_steps_by_chat(uuid, timestamptz, uuid, integer, bigint)
  to authenticated, service_role;
