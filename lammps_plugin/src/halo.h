// Rows of numbers for each atom, carried between the process that owns an atom and those that have it as a ghost.
#pragma once
#include <mpi.h>

#include <cstddef>
#include <vector>

namespace nequip_lammps {

// LAMMPS's own communication carries all ghosts, most of which the model does not see, from box to box. Here a process
// asks, once for each neighbor list, for the atoms that may become neighbors; then their rows come straight from the
// owner, in one message from each process.
class Halo {
 public:
  struct Home {
    int rank;    // of the process that owns an atom
    int number;  // of the atom there
  };

  // All processes together, for a new neighbor list. ghosts: LAMMPS's numbers of those whose rows may be asked for;
  // homes[i]: where LAMMPS's atom i lives.
  void plan(const std::vector<int>& ghosts, const std::vector<Home>& homes, MPI_Comm world);

  // For the graph that is about to be computed. index[row]: LAMMPS's number of a row, or -1 for none; the first rows are
  // centers, which this process owns. Throws std::runtime_error for a row that nobody was asked for.
  void set_rows(const std::vector<int>& index, size_t num_centers, size_t num_lammps_atoms);

  // rows [center, width] -> all [row, width]
  template <class Scalar>
  void forward(const Scalar* rows, Scalar* all, size_t width);

  // all [row, width] -> rows [center, width]: the rows of ghosts are added to those of their owners.
  template <class Scalar>
  void reverse(const Scalar* all, Scalar* rows, size_t width);

  size_t num_centers() const { return centers; }
  size_t num_rows() const { return total; }

 private:
  // Atoms in the order in which their rows travel: those of one other process follow each other.
  struct Side {
    std::vector<int> atoms;           // LAMMPS's numbers here
    std::vector<int> counts, starts;  // by process
    std::vector<int> rows;            // of the atoms in the graph, -1 for none
    std::vector<std::byte> buffer;

    void set_counts(const std::vector<int>& counts);

    template <class Scalar>
    Scalar* room(size_t width);
  };

  template <class Scalar>
  void pack(Side& side, const Scalar* rows, size_t width);

  template <class Scalar>
  void send(Side& from, Side& to, size_t width);

  MPI_Comm world = MPI_COMM_NULL;
  Side wanted;  // ghosts of this process
  Side lent;    // atoms of this process that others have as ghosts
  size_t centers = 0, total = 0;
  std::vector<int> row_of;  // of LAMMPS's atoms
};

}  // namespace nequip_lammps
