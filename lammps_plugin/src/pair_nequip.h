// pair_style nequip | allegro | mace: one class, which differs in the architecture that it takes.
#pragma once
#include <memory>
#include <string>
#include <vector>

#include "card.h"
#include "halo.h"
#include "local_graph.h"
#include "model.h"
#include "pair.h"

namespace LAMMPS_NS {

class PairNequip : public Pair {
 public:
  PairNequip(LAMMPS* lammps, std::string architecture);
  ~PairNequip() override;

  void settings(int narg, char** arg) override;
  void coeff(int narg, char** arg) override;
  void init_style() override;
  double init_one(int i, int j) override;
  void compute(int eflag, int vflag) override;

  int pack_forward_comm(int n, int* list, double* message, int, int*) override;
  void unpack_forward_comm(int n, int first, double* message) override;

 private:
  void load(const std::string& path, const std::vector<std::string>& elements);
  void map_types(const std::vector<std::string>& elements, const std::string& path);
  void agree_on(const std::string& problem);
  int local_rank() const;
  bool has_new_neighbors();
  void update_representatives();
  void plan_exchanges();
  void tally(const nequip_lammps::LocalGraph& graph, const nequip_lammps::Model::Result& result);
  void tally_edge(int i, int j, const double* vector, const double* gradient);

  std::string architecture;
  nequip_lammps::Card card;
  std::vector<int> model_type;  // by LAMMPS type; -1 where the model is not asked
  std::unique_ptr<nequip_lammps::Model> model;
  std::unique_ptr<nequip_lammps::GraphBuilder> builder;
  nequip_lammps::Halo halo;
  std::vector<nequip_lammps::Halo::Home> homes;  // of each atom and ghost
  std::vector<int> representative;  // of each atom and ghost: see GraphBuilder
};

}  // namespace LAMMPS_NS
