// The compiled potential of an artefact, loaded.
#pragma once
#include <memory>
#include <vector>

#include "archive.h"
#include "card.h"
#include "local_graph.h"

namespace nequip_lammps {

class Halo;

class Model {
 public:
  // local_rank: of this process among those of its node, which share out the GPUs.
  // Throws std::runtime_error where the artefact cannot be loaded.
  Model(const Archive& archive, const Card& card, const std::string& path, int local_rank);
  ~Model();

  struct Result {
    const double* atomic_energies;  // [center], eV
    const double* edge_gradient;    // [edge, 3]: derivative of the energy of all atoms by edge vectors, eV/Å
  };

  // The result lives until the next call. Throws std::runtime_error where the model fails.
  Result run(const LocalGraph& graph, Halo& halo, int num_threads);

 private:
  struct Loaded;
  std::unique_ptr<Loaded> loaded;
};

}  // namespace nequip_lammps
