-- Begins reservations anew. KEYS: reserved, held. ARGV: clock, retry after in us; of each: handle, attempts.
-- Returns the places of those that are stale.
local now, retry_after = clock(ARGV[1]), tonumber(ARGV[2])
local stale = {}
begin_when_full(KEYS[2])
for at = 3, #ARGV, 2 do
  local member = find_held(KEYS[1], KEYS[2], ARGV[at], ARGV[at + 1])
  if member then
    local lapses = seconds(now + retry_after + (at - 3) / 2)
    redis.call('ZADD', KEYS[1], lapses, member)
    redis.call('ZADD', KEYS[2], lapses, ARGV[at])
  else
    stale[#stale + 1] = (at - 3) / 2
  end
end
return stale
