-- Tells which jobs of Laravel's are held, by whomever of ours, whether their reservations have lapsed or not.
-- KEYS: reserved, held. ARGV: of each its payload, as it was at any attempt. Returns the places of those that are.
local places = {}
for place, payload in ipairs(ARGV) do
  local wanted = read_laravels(payload)
  local score = wanted and redis.call('ZSCORE', KEYS[2], wanted.handle)
  local members = score and redis.call('ZRANGEBYSCORE', KEYS[1], score, score) or {}
  for i = 1, #members do
    local message = read(members[i])
    if message and message.handle == wanted.handle then
      places[#places + 1] = place - 1
      break
    end
  end
end
return places
