// Compiles for the devices of a PJRT plugin, by the plugin.
#ifndef CC_COMPILER_PJRT_COMPILER_H_
#define CC_COMPILER_PJRT_COMPILER_H_

#include <map>
#include <memory>
#include <string>

#include "cc/compiler/target_compiler.h"
#include "cc/device/pjrt/plugin.h"

namespace tfipu {

// Where code for a PJRT target comes from.
struct PjrtCompileOptions {
  PluginSource plugin;
  // A description of devices that need not be here, in the terms of the plugin
  // (PJRT_TopologyDescription_Create). With neither: the plugin's devices on this machine.
  std::string topology_name = "";
  std::map<std::string, std::string> topology_options = {};
};

// Errors of the plugin name it and the stage's module.
std::unique_ptr<TargetCompiler> MakePjrtCompiler(PjrtCompileOptions options);

}  // namespace tfipu

#endif  // CC_COMPILER_PJRT_COMPILER_H_
