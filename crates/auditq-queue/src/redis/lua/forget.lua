-- Drops failed messages of one queue. KEYS: failed, payloads, all, of the queue. ARGV: of each: id, number.
-- Returns how many.
local dropped = 0
for at = 1, #ARGV, 2 do
  local number = redis.call('ZSCORE', KEYS[4], ARGV[at])
  if number and digits(tonumber(number)) == ARGV[at + 1] then
    redis.call('HDEL', KEYS[1], ARGV[at])
    redis.call('HDEL', KEYS[2], ARGV[at])
    redis.call('ZREM', KEYS[3], ARGV[at])
    redis.call('ZREM', KEYS[4], ARGV[at])
    dropped = dropped + 1
  end
end
return dropped
