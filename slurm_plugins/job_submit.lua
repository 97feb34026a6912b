-- job_submit.lua of a site that had none: only the broker's check. Add the site's own rules here;
-- `broker slurm-conf --install` never overwrites this file.

local BROKER = "/etc/slurm/broker/broker.lua"

-- A guest must not stop anybody's jobs: without it wishes go unchecked until the broker reads them.
local loaded, broker = pcall(dofile, BROKER)
if not loaded then
    slurm.log_error("broker: %s cannot be loaded, wishes are not checked: %s", BROKER, tostring(broker))
end

function slurm_job_submit(job_desc, part_list, submit_uid)
    return loaded and broker.job_submit(job_desc, part_list, submit_uid) or slurm.SUCCESS
end

function slurm_job_modify(job_desc, job_rec, part_list, modify_uid)
    return loaded and broker.job_modify(job_desc, job_rec, part_list, modify_uid) or slurm.SUCCESS
end

return slurm.SUCCESS
