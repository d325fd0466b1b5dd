-- A request has any id that was not used before; each handled request changes the resource version.
if obj.metadata.annotations == nil then
  obj.metadata.annotations = {}
end
obj.metadata.annotations["cloud.konigle.com/reconcile-at"] = "argocd-" .. obj.metadata.resourceVersion
return obj
