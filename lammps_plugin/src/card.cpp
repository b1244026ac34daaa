#include "card.h"

#include <torch/csrc/inductor/aoti_torch/c/shim.h>
#include <torch/headeronly/version.h>

#include <cstdint>
#include <stdexcept>

#include "json.h"

namespace nequip_lammps {

namespace {

using LAMMPS_NS::json;

constexpr int FORMAT = 1;

std::string text_or_empty(const json& value) { return value.is_null() ? std::string() : value.get<std::string>(); }

bool machine_has(const std::string& instruction_set) {
#if defined(__x86_64__)
  if (instruction_set == "avx512")
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
           __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq");
  if (instruction_set == "avx2") return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
#endif
  return instruction_set == "generic";
}

// "2.13" of the torch that is loaded, which need not be the one that this file was compiled with.
std::string running_torch() {
  const uint64_t version = aoti_torch_abi_version();
  return std::to_string(version >> 56) + "." + std::to_string((version >> 48) & 0xff);
}

std::string major_minor(const std::string& version) {
  const auto first = version.find('.');
  return version.substr(0, first == std::string::npos ? first : version.find('.', first + 1));
}

}  // namespace

Card Card::parse(const std::string& text, const std::string& path) {
  try {
    const json values = json::parse(text);
    // another format may lack or rename what follows: that it is another one is all there is to say
    if (const int format = values.at("format"); format != FORMAT)
      throw std::runtime_error(path + " has format " + std::to_string(format) + ", this plugin reads format " +
                               std::to_string(FORMAT) + ": compile it with the e3forge that the plugin is from");
    Card card;
    card.target = values.at("target");
    card.device = values.at("device");
    card.dtype = values.at("dtype");
    card.architecture = values.at("architecture");
    card.torch_version = values.at("torch_version");
    card.instruction_set = text_or_empty(values.at("instruction_set"));
    card.type_names = values.at("type_names").get<std::vector<std::string>>();
    card.r_max = values.at("r_max");
    if (!values.at("per_edge_type_cutoff").is_null())
      card.per_edge_type_cutoff = values.at("per_edge_type_cutoff").get<std::vector<std::vector<double>>>();
    card.exchange_width = values.at("exchange_width");
    card.abi = text_or_empty(values.at("abi"));
    card.operators = text_or_empty(values.at("operators"));
    for (const json& kernel : values.at("kernels"))
      card.kernels.push_back({kernel.at("kind"), kernel.at("spec"), kernel.at("file"), kernel.at("scalar_bytes")});
    return card;
  } catch (const json::exception& error) {
    throw std::runtime_error("the card of " + path + " cannot be read (" + error.what() +
                             "): write the file again with nequip-compile");
  }
}

void Card::check_runs_here(const std::string& path) const {
  if (target != "lammps")
    throw std::runtime_error(path + " was compiled for --target " + target +
                             ": compile the potential with nequip-compile --target lammps");
  if (major_minor(torch_version) != running_torch())
    throw std::runtime_error(path + " was compiled with torch " + torch_version + ", and this is torch " +
                             running_torch() + ": compile it again with this torch");
  if (major_minor(TORCH_VERSION) != running_torch())
    throw std::runtime_error("the plugin was built with torch " TORCH_VERSION ", and this is torch " + running_torch() +
                             ": build the plugin again");
  if (!instruction_set.empty() && !machine_has(instruction_set))
    throw std::runtime_error(path + " was compiled for machines with " + instruction_set +
                             ", which this one lacks: compile it on this machine");
}

double Card::cutoff(int type_of_center, int type_of_neighbor) const {
  return per_edge_type_cutoff.empty() ? r_max : per_edge_type_cutoff[type_of_center][type_of_neighbor];
}

}  // namespace nequip_lammps
