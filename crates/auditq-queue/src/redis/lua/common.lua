-- What every script begins with: the clock, and how a member of a queue's keys is read and written.
--
-- A member that auditq pushed begins with a head of a fixed shape, so that no payload has to be read as JSON:
--   {"auditq":"0000000000000042o","id":"ID","attempts":0,"createdAt":S,"availableAt":S.SSSSSS,"bytes":N ...
-- The number counts pushes, which makes members unique and sorts those of one instant; `o` is a JSON object that the
-- head was put in front of, `t` is text that stands in "data". A job that Laravel pushed keeps its shape.

local ATTEMPTS_MAX = 4294967294

-- Microseconds since 1970: the test's, or the server's own.
local function clock(given)
  if given ~= '' then return tonumber(given) end
  local time = redis.call('TIME')
  return tonumber(time[1]) * 1000000 + tonumber(time[2])
end

-- A score: seconds, as Laravel's are, with their fraction.
local function seconds(us) return string.format('%.6f', us / 1000000) end

local function digits(number) return string.format('%.0f', number) end

local function next_handle(seq_key) return string.format('%016.0f', redis.call('INCR', seq_key)) end

local function read_ours(member)
  if string.sub(member, 1, 11) ~= '{"auditq":"' then return nil end
  if not string.find(member, '^%d%d%d%d%d%d%d%d%d%d%d%d%d%d%d%d[ot]","id":"', 12) then return nil end
  local from, to, attempts, created, available, bytes =
    string.find(member, '","attempts":(%d+),"createdAt":(%d+),"availableAt":([%d.]+),"bytes":(%d+)', 37)
  if not from then return nil end
  return {
    ours = true, handle = string.sub(member, 12, 27), kind = string.sub(member, 28, 28),
    id = string.sub(member, 37, from - 1), attempts = tonumber(attempts), created = created,
    available = tonumber(available), bytes = tonumber(bytes), body_at = to + 1,
  }
end

local function write_ours(message, attempts, available, body)
  return '{"auditq":"' .. message.handle .. message.kind .. '","id":"' .. message.id .. '","attempts":' ..
    digits(attempts) .. ',"createdAt":' .. message.created .. ',"availableAt":' .. available .. ',"bytes":' ..
    digits(message.bytes) .. body
end

-- Where the string that opens at `from` closes: at the first quote behind an even number of backslashes. Most quotes in
-- a job are escaped, so the first that is behind none is found in one go, and then those behind pairs before it.
local function string_end(text, from)
  local _, close = string.find(text, '^[^"\\]*"', from + 1)
  if close then return close end
  local plain = string.find(text, '[^\\]"', from + 1)
  local at = from + 1
  while true do
    at = string.find(text, '\\\\"', at, true)
    if not at or plain and at > plain then return plain and plain + 1 end
    local first = at
    while string.byte(text, first - 1) == 92 do first = first - 1 end
    if (at + 2 - first) % 2 == 0 then return at + 2 end
    at = at + 3
  end
end

-- Finds what matters at the top level of a JSON object, without changing a byte of the rest: cjson would drop the
-- order of keys, digits of numbers, and turn [] into {}.
local function scan(text)
  local at = string.match(text, '^%s*{()')
  local found, depth, key_comes = {}, 1, true
  while at do
    local from = string.find(text, '["{}%[%],]', at)
    if not from then return nil end
    local token = string.byte(text, from)
    at = from + 1
    if token == 34 then
      local close = string_end(text, from)
      if not close then return nil end
      at = close + 1
      if depth == 1 and key_comes then
        key_comes = false
        local key, value = string.sub(text, from + 1, close - 1), string.match(text, '^%s*:%s*()', close + 1)
        if not value then return nil end
        if key == 'attempts' then
          local first, last = string.find(text, '^%d+', value)
          if not first or not string.find(text, '^%s*[,}]', last + 1) then return nil end
          found.first, found.last = first, last
        elseif key == 'id' or key == 'uuid' then
          found[key] = string.match(text, '^"([^"\\]+)"', value)
        elseif key == 'createdAt' or key == 'pushedAt' then
          found.created = found.created or string.match(text, '^"?(%d+)', value)
        end
      end
    elseif token == 44 then
      key_comes = key_comes or depth == 1
    elseif token == 123 or token == 91 then
      depth = depth + 1
    else
      depth = depth - 1
      if depth == 0 then return string.find(text, '^%s*$', at) and found.first and found or nil end
    end
  end
  return nil
end

-- When a job was pushed, from the end of it that begins at `from`.
local function created_in(text, from)
  local _, to = string.find(text, '"createdAt":', from, true)
  if not to then _, to = string.find(text, '"pushedAt":"', from, true) end
  return to and string.match(text, '^(%d+)[^{}%[%]\\]*}$', to + 1)
end

-- The same for a job as Laravel writes it: `uuid` comes first, `id` stands before `attempts`, and behind that are nothing
-- but plain values, so that the bracket at the end is the object's own. A quote in a string is behind a backslash, so no
-- string can look like a key. Uuid and id tell such jobs apart. Nil for any other, such as one that Laravel's worker has
-- written anew with its keys in another order.
local function glance(text)
  local uuid, end_from = string.match(text, '^{"uuid":"([%w-]+)"'), math.max(1, #text - 299)
  local from = string.find(text, '"id":', end_from, true)
  local id, first, attempts, last, closed =
    string.match(text, '"id":"(%w+)","attempts":()(%d+)()[^{}%[%]\\]*}()', from or end_from)
  if not uuid or closed ~= #text + 1 then return nil end
  return {
    uuid = uuid, handle = uuid .. '.' .. id, first = first, last = last - 1, attempts = attempts,
    created = created_in(text, end_from),
  }
end

-- A job of Laravel's. One that is not as Laravel writes it is known by all of its bytes but the number of attempts.
local function read_laravels(member)
  local found = glance(member) or scan(member)
  if not found then return nil end
  local attempts = tonumber(found.attempts or string.sub(member, found.first, found.last))
  local handle = found.handle or
    redis.sha1hex(string.sub(member, 1, found.first - 1) .. '#' .. string.sub(member, found.last + 1))
  local id = found.uuid or found.id
  if not id or #id > 200 then
    id = string.gsub(string.sub(handle, 1, 32), '(%x%x%x%x%x%x%x%x)(%x%x%x%x)(%x%x%x%x)(%x%x%x%x)(%x+)', '%1-%2-%3-%4-%5')
  end
  return {
    handle = handle, id = id, attempts = attempts, created = found.created or '0',
    available = tonumber(found.created or '0'), bytes = #member, first = found.first, last = found.last,
  }
end

local function read(member) return read_ours(member) or read_laravels(member) end

-- Takes what no worker could read, which Laravel's own script destroys: as text, with a head.
local function adopt(member, seq_key, now)
  local message = {
    ours = true, handle = next_handle(seq_key), kind = 't', id = 'unreadable-' .. redis.sha1hex(member), attempts = 0,
    created = digits(math.floor(now / 1000000)), available = now / 1000000, bytes = #member,
  }
  local body = ',"displayName":"auditq: text","job":"auditq@text","data":' .. cjson.encode(member) .. '}'
  local adopted = write_ours(message, 0, seconds(now), body)
  return adopted, read_ours(adopted)
end

-- The same member with another number of attempts.
local function with_attempts(member, message, attempts)
  if not message.ours then
    return string.sub(member, 1, message.first - 1) .. digits(attempts) .. string.sub(member, message.last + 1)
  end
  return write_ours(message, attempts, seconds(message.available * 1000000), string.sub(member, message.body_at))
end

-- The member that lapses at `score`, if it is that of the handle, held for that attempt.
local function find_at(reserved, score, handle, attempts)
  local members = redis.call('ZRANGEBYSCORE', reserved, score, score)
  for i = 1, #members do
    local message = read(members[i])
    if message and message.handle == handle and message.attempts == tonumber(attempts) then
      return members[i], message
    end
  end
  return nil
end

-- What a reservation is called among those that are held: whoever has taken the message again has another claim.
local function claim(handle, attempts) return handle .. ' ' .. attempts end

-- The member that is held under a handle for that attempt, if it still is.
local function find_held(reserved, held, handle, attempts)
  local score = redis.call('ZSCORE', held, claim(handle, attempts))
  if not score then return nil end
  return find_at(reserved, score, handle, attempts)
end

-- A function that gives so many scores from a time on, a microsecond apart, which no other reservation has: a score leads
-- to one member. No whole seconds, which are those of Laravel's reservations.
local function free_scores(held, from, count)
  while true do
    local last = redis.call('ZREVRANGEBYSCORE', held, seconds(from + count), seconds(from), 'WITHSCORES', 'LIMIT', 0, 1)
    if not last[2] then break end
    from = math.floor(tonumber(last[2]) * 1000000 + 0.5) + 1
  end
  local next_one, whole = from, math.ceil(from / 1000000) * 1000000
  return function()
    if next_one == whole then next_one = next_one + 1 end
    next_one = next_one + 1
    return seconds(next_one - 1)
  end
end

-- What a held member is once its payload is replaced by what is left; an empty kind leaves it.
local function shrink(member, message, kind, bytes, body, seq_key, ids)
  if kind == '' then return member, message end
  if not message.ours and kind == 'o' then
    local whole = body == '}' and '{}' or '{' .. string.sub(body, 2)
    local job = read_laravels(whole)
    if job then
      whole = with_attempts(whole, job, message.attempts)
      return whole, read_laravels(whole)
    end
  end
  local handle = message.ours and message.handle or next_handle(seq_key)
  if not message.ours then redis.call('SADD', ids, message.id) end
  local less = { handle = handle, kind = kind, id = message.id, created = message.created, bytes = tonumber(bytes) }
  local shrunk = write_ours(less, message.attempts, seconds(message.available * 1000000), body)
  return shrunk, read_ours(shrunk)
end

-- Moves what is due into the list, in its order; a few at a time, because they may be large. Returns how many.
local function make_due_ready(delayed, list, now)
  local moved = 0
  while moved < 200 do
    local due = redis.call('ZRANGEBYSCORE', delayed, '-inf', seconds(now), 'LIMIT', 0, 20)
    for i = 1, #due do redis.call('RPUSH', list, due[i]) end
    if #due > 0 then redis.call('ZREMRANGEBYRANK', delayed, 0, #due - 1) end
    moved = moved + #due
    if #due < 20 then break end
  end
  return moved
end

-- Leaves a token for each message that is ready, up to a hundred: who blocks on them has found the queue empty.
local function count_tokens(list, notify)
  local want = math.min(redis.call('LLEN', list), 100)
  local have = redis.call('LLEN', notify)
  if want == 0 then
    if have > 0 then redis.call('DEL', notify) end
  elseif have > want then
    redis.call('LTRIM', notify, 0, want - 1)
  else
    for _ = have + 1, want do redis.call('RPUSH', notify, '1') end
  end
end

-- What makes room must go on when the server's memory is full: a script is refused then only if its first write may
-- take memory, and this one does not.
local function begin_when_full(key) redis.call('ZREM', key, '') end
