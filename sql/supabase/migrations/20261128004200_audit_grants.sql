-- Privileges of the log of who did what. May be run again at any time.
revoke all on public.audit_log from public, anon, authenticated, service_role;
grant select on public.audit_log to authenticated, service_role;
revoke all on function private.audit_stays(), private.caller_name(), private.note_role() from public, anon, authenticated, service_role;
revoke all on function public.note_act(text, text, text), public.list_acts(text, integer) from public, anon, authenticated, service_role;
grant execute on function public.note_act(text, text, text), public.list_acts(text, integer) to authenticated, service_role;
