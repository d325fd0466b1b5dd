-- Follows kstatus, as konigle-operator writes its conditions: Stalled and Reconciling are
-- absent unless True, and Ready is there from the first write on.
local health = { status = "Progressing", message = "waiting for konigle-operator to look at this version" }

local status = obj.status
if status == nil or status.observedGeneration ~= obj.metadata.generation then
  return health
end

local conditions = {}
for _, condition in ipairs(status.conditions or {}) do
  conditions[condition.type] = condition
end

local function told(condition)
  return (condition.reason or "") .. ": " .. (condition.message or "")
end

local ready = conditions["Ready"]
if ready == nil then
  return health
end

local stalled = conditions["Stalled"]
if stalled ~= nil and stalled.status == "True" then
  health.status = "Degraded"
  health.message = told(stalled)
elseif ready.status == "True" then
  health.status = "Healthy"
  health.message = told(ready)
elseif obj.spec.suspend then
  health.status = "Suspended"
  health.message = told(ready)
else
  health.message = told(ready)
end
return health
