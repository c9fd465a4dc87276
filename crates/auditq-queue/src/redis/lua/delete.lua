-- Removes messages that are done. KEYS: reserved, held, ids. ARGV: of each: handle, attempts.
-- Returns the places of those that are stale.
local stale = {}
for at = 1, #ARGV, 2 do
  local member, message = find_held(KEYS[1], KEYS[2], ARGV[at], ARGV[at + 1])
  if member then
    redis.call('ZREM', KEYS[1], member)
    redis.call('ZREM', KEYS[2], ARGV[at])
    redis.call('SREM', KEYS[3], message.id)
  else
    stale[#stale + 1] = (at - 1) / 2
  end
end
return stale
