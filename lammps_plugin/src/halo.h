// Rows of numbers for each atom, carried between the process that owns an atom and those that have it as a ghost.
#pragma once
#include <cstddef>
#include <vector>

namespace LAMMPS_NS {
class Comm;
class Pair;
}  // namespace LAMMPS_NS

namespace nequip_lammps {

// LAMMPS packs and unpacks by its own numbers of atoms (owned, then every ghost), the model has its own (centers, then
// those ghosts alone that are neighbors): rows are spread out to the former, communicated, and gathered again. Ghosts
// that the model does not see take part, because they are handed on to further processes.
class Halo {
 public:
  // `pair` calls pack... and unpack... below when LAMMPS asks it to.
  explicit Halo(LAMMPS_NS::Pair* pair) : pair(pair) {}

  // For the graph that is about to be computed. index[row]: LAMMPS's number of a row, or -1 for none.
  void set_rows(const std::vector<int>& index, size_t num_centers, size_t num_lammps_atoms, LAMMPS_NS::Comm* comm);

  // rows [center, width] -> all [row, width]
  template <class Scalar>
  void forward(const Scalar* rows, Scalar* all, size_t width);

  // all [row, width] -> rows [center, width]: the rows of ghosts are added to those of their owners.
  template <class Scalar>
  void reverse(const Scalar* all, Scalar* rows, size_t width);

  size_t num_centers() const { return centers; }
  size_t num_rows() const { return index.size(); }

  // Doubles that LAMMPS must make room for: its messages are of doubles, two float32 go into one.
  static int doubles(size_t width, size_t scalar_bytes) { return static_cast<int>((width * scalar_bytes + 7) / 8); }

  int pack(int n, const int* list, double* message) const;         // rows of listed atoms
  int pack_range(int n, int first, double* message) const;         // rows of n atoms from the first
  void unpack_range(int n, int first, const double* message);      // put in place
  void add(int n, const int* list, const double* message);         // added to listed atoms

 private:
  template <class Scalar>
  void spread(const Scalar* rows, size_t count, size_t width);

  LAMMPS_NS::Pair* pair;
  LAMMPS_NS::Comm* comm = nullptr;  // given anew each time: `comm_style` replaces it
  std::vector<int> index;
  size_t centers = 0, atoms = 0;
  std::vector<std::byte> buffer;  // [LAMMPS atom, stride]
  size_t stride = 0;              // bytes of a row, whole doubles
  bool is_float = false;
};

}  // namespace nequip_lammps
