-- Privileges, said in full: older hosted projects grant everything on new public tables and functions to anon and
-- authenticated, newer ones nothing. May be run again at any time.
grant usage on schema public to anon, authenticated, service_role;
revoke all on public.profiles, public.chats, public.reasoning_steps, public.chat_feedback from public, anon, authenticated;
grant select on public.profiles to authenticated;
grant update (display_name, consent, consent_at) on public.profiles to authenticated; -- never role
grant select on public.chats, public.reasoning_steps to authenticated;
grant select, insert, update, delete on public.chat_feedback to authenticated;
grant all on public.profiles, public.chats, public.reasoning_steps, public.chat_feedback to service_role;

grant usage on schema private to authenticated, service_role;
revoke all on all tables in schema private from public, anon, authenticated, service_role;
revoke all on all functions in schema private from public, anon, authenticated, service_role;
grant execute on function private.my_role(), private.is_operator(), private.has_role(text[]), private.sees_all_chats(),
  private.sees_all_feedback(), private.my_chats(), private.require_role(text[]), private.utc(timestamptz),
  private.chat_line(public.chats), private.feedback_line(public.chat_feedback), private.profile_line(public.profiles)
  to authenticated, service_role;

revoke all on function
  public.me(), public.rename_me(text), public.list_profiles(text), public.add_profile(uuid, text, text), public.team(),
  public.set_role(uuid, text), public.rate(uuid, uuid, uuid, integer, text), public.comment_on(uuid, uuid, text),
  public.withdraw(uuid, uuid), public.my_ratings(uuid), public.my_progress(), public.next_chat(timestamptz, uuid),
  public.get_chat(uuid), public.label_view(uuid), public.previous_chat(timestamptz, uuid),
  public.search_chats(text, integer), public.mean_scores(uuid), public.store_counts(),
  public.stage_import(uuid, integer, text, text), public.drop_import(uuid), public.finish_import(uuid, integer),
  public.begin_export(uuid), public.end_export(uuid),
  public.export_chats(uuid, timestamptz, uuid, integer, bigint), public.export_steps(uuid, uuid, integer, integer, bigint),
  public.export_feedback(uuid, bigint, integer, timestamptz), public.row_hashes(text, text),
  public.judged_otherwise(text), public.adopt_ratings(uuid, uuid), public.renew_feedback(text)
  from public, anon, authenticated, service_role;
grant execute on function
  public.me(), public.rename_me(text), public.list_profiles(text), public.add_profile(uuid, text, text), public.team(),
  public.set_role(uuid, text), public.rate(uuid, uuid, uuid, integer, text), public.comment_on(uuid, uuid, text),
  public.withdraw(uuid, uuid), public.my_ratings(uuid), public.my_progress(), public.next_chat(timestamptz, uuid),
  public.get_chat(uuid), public.label_view(uuid), public.previous_chat(timestamptz, uuid),
  public.search_chats(text, integer), public.mean_scores(uuid), public.store_counts(),
  public.stage_import(uuid, integer, text, text), public.drop_import(uuid), public.finish_import(uuid, integer),
  public.begin_export(uuid), public.end_export(uuid),
  public.export_chats(uuid, timestamptz, uuid, integer, bigint), public.export_steps(uuid, uuid, integer, integer, bigint),
  public.export_feedback(uuid, bigint, integer, timestamptz), public.row_hashes(text, text),
  public.judged_otherwise(text), public.adopt_ratings(uuid, uuid), public.renew_feedback(text)
  to authenticated, service_role;
