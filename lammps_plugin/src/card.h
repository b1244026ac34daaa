// What an artefact says of itself (nequip/export/README.md), and whether it can run here.
#pragma once
#include <string>
#include <vector>

namespace nequip_lammps {

struct KernelFile {
  std::string kind, spec, file;
  int scalar_bytes;
};

struct Card {
  std::string target, device, dtype, architecture, torch_version, instruction_set;
  std::vector<std::string> type_names;
  double r_max;                                           // Å
  std::vector<std::vector<double>> per_edge_type_cutoff;  // Å, [center][neighbor]; empty: r_max everywhere
  int exchange_width;          // columns of the widest exchanged row, 0 without exchanges
  std::string abi, operators;  // empty without operators
  std::vector<KernelFile> kernels;

  // Throws std::runtime_error for what is no card.
  static Card parse(const std::string& json, const std::string& path);

  // Throws std::runtime_error with a sentence for an artefact that this machine or this torch cannot run.
  void check_runs_here(const std::string& path) const;

  double cutoff(int type_of_center, int type_of_neighbor) const;
};

}  // namespace nequip_lammps
