-- Gives messages back. KEYS: list, delayed, reserved, notify, held, ids, seq
-- ARGV: clock, delay in us, attempts that do not count; of each: handle, attempts, kind, bytes, body
-- Returns the places of those that are stale.
local list, delayed, reserved, held = KEYS[1], KEYS[2], KEYS[3], KEYS[5]
local now, delay, uncounted = clock(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local due = seconds(now + delay)
begin_when_full(held)
make_due_ready(delayed, list, now)
local stale = {}
for at = 4, #ARGV, 5 do
  local member, message = find_held(reserved, held, ARGV[at], ARGV[at + 1])
  if member then
    redis.call('ZREM', reserved, member)
    redis.call('ZREM', held, claim(ARGV[at], ARGV[at + 1]))
    member, message = shrink(member, message, ARGV[at + 2], ARGV[at + 3], ARGV[at + 4], KEYS[7], KEYS[6])
    if message.ours then
      member = write_ours(message, message.attempts - uncounted, due, string.sub(member, message.body_at))
    elseif uncounted > 0 then
      member = with_attempts(member, message, message.attempts - uncounted)
    end
    if delay == 0 then
      redis.call('RPUSH', list, member)
    else
      redis.call('ZADD', delayed, due, member)
    end
  else
    stale[#stale + 1] = (at - 4) / 5
  end
end
count_tokens(list, KEYS[4])
return stale
