-- Checks what a job wishes of the broker (--comment="broker:spot=no,zones=us-east-1+us-west-2") when it is submitted.
--
-- A module for the site's job_submit.lua:
--     local broker = dofile("/etc/slurm/broker/broker.lua")
--     function slurm_job_submit(job_desc, part_list, submit_uid)
--         -- the site's own rules first: they may choose the partition
--         return broker.job_submit(job_desc, part_list, submit_uid)
--     end
--     function slurm_job_modify(job_desc, job_rec, part_list, modify_uid)
--         return broker.job_modify(job_desc, job_rec, part_list, modify_uid)
--     end
--
-- No I/O: slurmctld holds its locks meanwhile. Lua 5.1 to 5.4, as Slurm was built. The grammar is
-- broker/slurm/wishes.py's, too; tests/unit/slurm/wishes_cases.toml holds the two together.

local PARTITIONS = "" -- the elastic partitions, separated by spaces; `broker slurm-conf --install` writes them here

local broker = {}

-- What the user reads. Longer words are cut: edit distance over a whole comment would hold slurmctld up.
local LONGEST_WORD = 40
local LONGEST_VALUE = 200
local NO_VAL = 4294967294 -- slurm.h

local elastic = {}
for name in PARTITIONS:gmatch("%S+") do
    elastic[name] = true
end

-- Values: each check answers whether `value` will do.

local function is_number(value)
    return value:match("^%d+$") ~= nil or value:match("^%d+%.%d+$") ~= nil
end

local function is_positive(value)
    return is_number(value) and tonumber(value) > 0
end

local function is_duration(value)
    local number = value:match("^(%d+)[smhd]$")
    return number ~= nil and tonumber(number) > 0
end

local function one_of(...)
    local allowed = {}
    for _, word in ipairs({ ... }) do
        allowed[word] = true
    end
    return function(value)
        return allowed[value] == true
    end
end

local function with_unit(unit)
    return function(value)
        return value:sub(-#unit) == unit and is_positive(value:sub(1, -#unit - 1))
    end
end

-- Every piece between "+" signs passes `check`; an empty piece never does.
local function list_of(check)
    return function(value)
        for piece in (value .. "+"):gmatch("([^+]*)%+") do
            if piece == "" or not check(piece) then
                return false
            end
        end
        return true
    end
end

local function is_name(value)
    return value:match("^%w[%w._/-]*$") ~= nil
end

local function is_data(value)
    local amount, place = value:match("^in:([^@]*)@(.*)$")
    if amount then
        return is_positive(amount) and is_name(place)
    end
    return is_name(value)
end

local function is_checkpoint(value)
    local interval, cost = value:match("^([^:]*):(.*)$")
    if interval then
        return is_duration(interval) and is_duration(cost)
    end
    return is_duration(value)
end

local function days_in(year, month)
    if month == 2 then
        local leap = year % 4 == 0 and (year % 100 ~= 0 or year % 400 == 0)
        return leap and 29 or 28
    end
    return (month == 4 or month == 6 or month == 9 or month == 11) and 30 or 31
end

local function is_moment(value)
    local year, month, day, hour, minute, rest = value:match("^(%d%d%d%d)-(%d%d)-(%d%d)T(%d%d):(%d%d)(.*)$")
    if not year then
        return false
    end
    year, month, day = tonumber(year), tonumber(month), tonumber(day)
    if year < 1 or month < 1 or month > 12 or day < 1 or day > days_in(year, month) then
        return false
    end
    if tonumber(hour) > 23 or tonumber(minute) > 59 then
        return false
    end
    rest = rest:gsub("^:[0-5]%d", "")
    return rest == "" or rest == "Z" or rest:match("^[+-][01]%d:[0-5]%d$") ~= nil
end

local RULES = {
    ["budget"] = { is_positive, "an amount of money, such as 40 or 12.50" },
    ["carbon-cap"] = { with_unit("kg"), "kilograms of CO2, such as 2.5kg" },
    ["ckpt"] = { is_checkpoint, "INTERVAL or INTERVAL:COST, such as 30m or 30m:20s" },
    ["data"] = { list_of(is_data), "in:GB@PLACE or a NAME, several joined by +, such as in:120@us-east-1+imagenet" },
    ["deadline"] = { is_moment, "a date and time, such as 2027-03-01T18:00 or 2027-03-01T18:00Z" },
    ["delay"] = { is_duration, "a time with its unit (s, m, h, d), such as 90m or 12h" },
    ["mode"] = { one_of("balanced", "cheap", "fast", "green"), "balanced, cheap, fast or green" },
    ["out"] = { is_positive, "gigabytes, such as 50" },
    ["premium"] = { with_unit("%"), "a percentage, such as 15%" },
    ["providers"] = { list_of(is_name), "names of providers, several joined by +, such as lambda-a+lambda-b" },
    ["signal"] = { one_of("average", "marginal"), "average or marginal" },
    ["spot"] = { one_of("no", "only", "yes"), "no, only or yes" },
    ["zones"] = { list_of(is_name), "names of zones, several joined by +, such as us-east-1+us-west-2" },
}

local KEYS = {}
for key in pairs(RULES) do
    KEYS[#KEYS + 1] = key
end
table.sort(KEYS)

local function edit_distance(a, b)
    local row = {}
    for j = 0, #b do
        row[j] = j
    end
    for i = 1, #a do
        local diagonal = row[0]
        row[0] = i
        for j = 1, #b do
            local swap = diagonal + (a:byte(i) == b:byte(j) and 0 or 1)
            diagonal = row[j]
            row[j] = math.min(swap, row[j] + 1, row[j - 1] + 1)
        end
    end
    return row[#b]
end

local function nearest_key(word)
    local best, least
    for _, key in ipairs(KEYS) do
        local distance = edit_distance(word, key)
        if not least or distance < least then
            best, least = key, distance
        end
    end
    return best
end

local function trim(text)
    return (text:gsub("^ +", ""):gsub(" +$", ""))
end

local function shown(word)
    return #word > LONGEST_WORD and word:sub(1, LONGEST_WORD) .. "..." or word
end

-- The wishes in `comment` as a table key -> value, empty when the comment is not for us; or nil and what is wrong.
function broker.parse(comment)
    local wishes = {}
    local text = trim(comment or "")
    local after = text:match("^[Bb][Rr][Oo][Kk][Ee][Rr] *: *(.*)$")
    if not after then
        local hidden = text:match("broker:[%w-]+=")
        if hidden then
            return nil, ('wishes stand alone in the comment: begin it with "%s..."'):format(shown(hidden))
        end
        return wishes
    end
    if after:find("[^ -~]") then
        return nil, "the wishes hold a character that is not plain ASCII: type them anew"
    end
    if after == "" then
        return nil, 'no wish after "broker:": write key=value, such as broker:spot=no. Keys: ' .. table.concat(KEYS, ", ")
    end
    for piece in (after .. ","):gmatch("([^,]*),") do
        piece = trim(piece)
        if piece == "" then
            return nil, "a comma without a wish beside it: take it away"
        end
        local key, value = piece:match("^([^=]-) *= *(.*)$")
        if not key then
            return nil,
                ('"%s" is not key=value; several values of one wish are joined by "+", as in zones=a+b'):format(shown(piece))
        end
        local rule = RULES[key]
        if not rule then
            local word = key:sub(1, LONGEST_WORD)
            return nil,
                ('there is no wish "%s": did you mean "%s"? Keys: %s'):format(
                    shown(key),
                    nearest_key(word),
                    table.concat(KEYS, ", ")
                )
        end
        if wishes[key] then
            return nil, ("the wish %s stands there twice: keep one"):format(key)
        end
        if #value > LONGEST_VALUE or not rule[1](value) then
            return nil, ("%s=%s will not do: wanted %s"):format(key, shown(value), rule[2])
        end
        wishes[key] = value
    end
    return wishes
end

local function refuse(message)
    slurm.log_user("%s", "broker: " .. message)
    return slurm.ERROR
end

-- The first elastic one of the partitions in `wanted` (nil: the cluster's default partition).
local function elastic_partition(wanted, part_list)
    if not wanted then
        for name, part in pairs(part_list or {}) do
            if part.flag_default == 1 then
                wanted = name
            end
        end
    end
    for name in (wanted or ""):gmatch("[^, ]+") do
        if elastic[name] then
            return name
        end
    end
end

local HET = "a heterogeneous job cannot use the elastic partition %s: its parts would wait for machines of different "
    .. "providers that cannot reach one another. Submit the parts as jobs of their own, or as one job of equal nodes"

-- For slurm_job_submit: slurm.SUCCESS, or slurm.ERROR after telling the user.
function broker.job_submit(job_desc, part_list, submit_uid)
    local partition = elastic_partition(job_desc.partition, part_list)
    if not partition then
        return slurm.SUCCESS
    end
    -- Slurm numbers the parts of a heterogeneous job from 0; any other job has NO_VAL.
    local part = job_desc.het_job_offset
    if part and part ~= NO_VAL then
        return refuse(HET:format(partition))
    end
    local wishes, wrong = broker.parse(job_desc.comment)
    return wishes and slurm.SUCCESS or refuse(wrong)
end

-- For slurm_job_modify. Slurm before 23.02 does not carry the reason to the user: it stands in slurmctld's log.
function broker.job_modify(job_desc, job_rec, part_list, modify_uid)
    if not job_desc.comment and not job_desc.partition then
        return slurm.SUCCESS
    end
    local partition = elastic_partition(job_desc.partition or job_rec.partition, part_list)
    if not partition then
        return slurm.SUCCESS
    end
    if job_desc.partition and (job_rec.het_job_id or 0) ~= 0 then
        return refuse(HET:format(partition))
    end
    local wishes, wrong = broker.parse(job_desc.comment or job_rec.comment)
    return wishes and slurm.SUCCESS or refuse(wrong)
end

return broker
