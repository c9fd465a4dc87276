-- Removes messages that are done. KEYS: reserved, held, ids. ARGV: of each: handle, attempts; a few hundred at the most.
-- Returns the places of those that are stale.
local handles, stale = {}, {}
for at = 1, #ARGV, 2 do handles[#handles + 1] = ARGV[at] end
local scores = redis.call('ZMSCORE', KEYS[2], unpack(handles))

local done, members, of_members, ids = {}, {}, {}, {}
for i = 1, #handles do
  local handle, member, message = handles[i], nil, nil
  -- The second of the same settles nothing any more.
  if scores[i] and not done[handle] then member, message = find_at(KEYS[1], scores[i], handle, ARGV[2 * i]) end
  if member then
    done[handle] = true
    members[#members + 1], of_members[#of_members + 1], ids[#ids + 1] = member, handle, message.id
  else
    stale[#stale + 1] = i - 1
  end
end
if #members > 0 then
  redis.call('ZREM', KEYS[1], unpack(members))
  redis.call('ZREM', KEYS[2], unpack(of_members))
  redis.call('SREM', KEYS[3], unpack(ids))
end
return stale
