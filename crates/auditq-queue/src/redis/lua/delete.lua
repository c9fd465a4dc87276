-- Removes messages that are done. KEYS: reserved, held, ids. ARGV: of each: handle, attempts, id; a few hundred at the most.
-- Returns the places of those that are stale.
--
-- The members are not looked at where none is stale: a score leads to one of them, and whoever has taken a message since has
-- moved it to another.
local reserved, held = KEYS[1], KEYS[2]
local claims, ids, stale = {}, {}, {}
for at = 1, #ARGV, 3 do
  claims[#claims + 1], ids[#ids + 1] = claim(ARGV[at], ARGV[at + 1]), ARGV[at + 2]
end
local scores = redis.call('ZMSCORE', held, unpack(claims))

-- All at once, if there is nothing else between their scores, not even room for a whole second: those are Laravel's.
local function remove_all()
  local first, last
  for i = 1, #claims do
    local score = scores[i] and tonumber(scores[i])
    if not score then return false end
    if not first or score < tonumber(first) then first = scores[i] end
    if not last or score > tonumber(last) then last = scores[i] end
  end
  if math.floor(tonumber(first)) ~= math.floor(tonumber(last)) then return false end
  for _, key in ipairs({ reserved, held }) do
    if redis.call('ZCOUNT', key, first, last) ~= #claims then return false end
  end
  redis.call('ZREMRANGEBYSCORE', reserved, first, last)
  redis.call('ZREMRANGEBYSCORE', held, first, last)
  redis.call('SREM', KEYS[3], unpack(ids))
  return true
end
if remove_all() then return stale end

for i = 1, #claims do
  local score = scores[i]
  -- The second of the same finds nothing any more.
  local member = score and find_at(reserved, score, ARGV[i * 3 - 2], ARGV[i * 3 - 1])
  if member and redis.call('ZREM', reserved, member) == 1 then
    redis.call('ZREM', held, claims[i])
    redis.call('SREM', KEYS[3], ids[i])
  else
    stale[#stale + 1] = i - 1
  end
end
return stale
