-- Begins reservations anew. KEYS: reserved, held. ARGV: clock, retry after in us; of each: handle, attempts.
-- Returns the places of those that are stale.
local now, retry_after = clock(ARGV[1]), tonumber(ARGV[2])
local found, stale = {}, {}
begin_when_full(KEYS[2])
for at = 3, #ARGV, 2 do
  local member = find_held(KEYS[1], KEYS[2], ARGV[at], ARGV[at + 1])
  if member then
    found[#found + 1] = { handle = ARGV[at], claim = claim(ARGV[at], ARGV[at + 1]), member = member }
  else
    stale[#stale + 1] = (at - 3) / 2
  end
end
-- In the order in which they were pushed, as when they were reserved.
table.sort(found, function(a, b) return a.handle < b.handle end)
local next_score = free_scores(KEYS[2], now + retry_after, #found)
for i = 1, #found do
  local lapses = next_score()
  redis.call('ZADD', KEYS[1], lapses, found[i].member)
  redis.call('ZADD', KEYS[2], lapses, found[i].claim)
end
return stale
